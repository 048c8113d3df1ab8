/* Sets the wall clock of a process ahead of the machine's, or behind it, by the seconds that stand
 * in a file. Other clocks are left alone. Preloaded into the processes under test:
 *
 *   LD_PRELOAD=shim.so ABIDE_FAKE_CLOCK=<file> <program>
 *
 * Everything here is done by system call, for the allocator reads the clock before anything is
 * initialised. (libfaketime looks up symbols first, which crashes the daemon: libc then frees memory
 * that is not its allocator's.)
 * Not intercepted: raw system calls and the kernel's own functions (rustix).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char *setting;

__attribute__((constructor)) static void start(void) { setting = getenv("ABIDE_FAKE_CLOCK"); }

static long ahead(void) {
    char text[32] = "";
    int before = errno;
    long seconds = 0, fd = setting ? syscall(SYS_openat, AT_FDCWD, setting, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        long bytes = syscall(SYS_read, fd, text, sizeof text - 1);
        syscall(SYS_close, fd);
        for (long i = *text == '-'; i < bytes && text[i] >= '0' && text[i] <= '9'; i++)
            seconds = 10 * seconds + text[i] - '0';
    }
    errno = before;
    return *text == '-' ? -seconds : seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, (long)clock, now);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead();
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    int result = syscall(SYS_gettimeofday, now, zone);
    if (!result && now) now->tv_sec += ahead();
    return result;
}

time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}
