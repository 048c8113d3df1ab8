/* Makes syncs wait while a file exists: a disk that answers reads and takes writes into the page
 * cache, and completes nothing. Preloaded into the processes under test:
 *
 *   LD_PRELOAD=shim.so ABIDE_HUNG_DISK=<file> <program>
 *
 * Not intercepted: raw system calls (rustix), and syncs inside libc itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *hangs;

__attribute__((constructor)) static void start(void) { hangs = getenv("ABIDE_HUNG_DISK"); }

static void wait_for_the_disk(void) {
    const struct timespec moment = {0, 5000000};
    int before = errno;
    while (hangs && !syscall(SYS_faccessat, AT_FDCWD, hangs, F_OK)) syscall(SYS_nanosleep, &moment, NULL);
    errno = before;
}

int fsync(int fd) {
    wait_for_the_disk();
    return syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    wait_for_the_disk();
    return syscall(SYS_fdatasync, fd);
}

int syncfs(int fd) {
    wait_for_the_disk();
    return syscall(SYS_syncfs, fd);
}

int sync_file_range(int fd, off_t from, off_t bytes, unsigned flags) {
    wait_for_the_disk();
    return syscall(SYS_sync_file_range, fd, from, bytes, (long)flags);
}
int sync_file_range64(int fd, off_t from, off_t bytes, unsigned flags) {
    return sync_file_range(fd, from, bytes, flags);
}
