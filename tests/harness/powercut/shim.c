/* Logs the operations of a process on the files below one folder, so that a test can compute what
 * a power cut would have left of them. Preloaded into the processes under test:
 *
 *   cc -shared -fPIC -O2 shim.c -o shim.so
 *   LD_PRELOAD=shim.so ABIDE_POWERCUT_DIR=<folder> ABIDE_POWERCUT_LOG=<file outside it> <program>
 *
 * The folder must exist and both must be absolute and free of symbolic links. Any number of
 * processes and threads may share one log. A record is one append: the header below, a path
 * relative to the folder, data. The reader is harness/powercut/log.rs.
 *
 * Order: an operation and the append of its record happen under a shared lock on the log, so the
 * holder of the exclusive lock knows that every completed operation is in the log, and may kill
 * the processes. A sync is two records, before and after: it makes durable what was in the log
 * when it began, and only if it has ended. Concurrent operations of two threads may be logged in
 * either order, as on a disk.
 *
 * Not intercepted: raw system calls (rustix without `use-libc`, io_uring), calls inside libc
 * itself (fopen, mkstemp), ioctl. Refused, so that callers fall back to writing: copy_file_range,
 * sendfile and splice into the folder. Logged as unsupported, which fails the test: writable
 * shared mappings and everything else marked UNSUPPORTED below. The reader compares the state of
 * the folder according to the log with the real one, so a missed operation does not go unnoticed.
 *
 * Everything here is done by system call, never by libc's function of the same name: this needs
 * no symbol lookup and no initialisation, and is safe in signal handlers.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(long) == 8 && sizeof(off_t) == 8, "offsets are passed as one word");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are little-endian");

struct header {
    uint32_t magic, op;
    uint64_t inode, a, b;
    uint32_t path_bytes, data_bytes;
};

enum { MAGIC = 0x77c0ffee };

enum op {            /* inode, a, b; path; data */
    OPEN = 1,        /* of the open file or folder, its mode, whether it was truncated; path */
    WRITE = 2,       /* of the file, offset; path; written bytes */
    TRUNCATE = 3,    /* of the file, length */
    EXTEND = 4,      /* of the file, minimum length */
    ZERO = 5,        /* of the file, from, count; never beyond its end */
    SYNC_BEGIN = 6,  /* of the file or folder, or 0 for all of them; thread */
    SYNC_END = 7,    /* the same */
    RENAME = 8,      /* path; new path */
    LINK = 9,        /* path; new path */
    REMOVE = 10,     /* path */
    MKDIR = 11,      /* of the folder, its mode; path */
    SYMLINK = 12,    /* of the link; path; what it points to */
    UNSUPPORTED = 13 /* path; the operation */
};

static char folder[PATH_MAX], log_path[PATH_MAX];
static size_t folder_bytes; /* 0 until there is a folder to watch */

__attribute__((constructor)) static void start(void) {
    const char *dir = getenv("ABIDE_POWERCUT_DIR"), *log = getenv("ABIDE_POWERCUT_LOG");
    if (!dir || !log || strlen(dir) >= PATH_MAX || strlen(log) >= PATH_MAX) return;
    strcpy(log_path, log);
    strcpy(folder, dir);
    folder_bytes = strlen(dir);
}

static void die(const char *what) {
    dprintf(2, "powercut: %s: %s\n", what, strerror(errno));
    abort();
}

/* --- which files are watched --- */

/* Returns whether a descriptor is open on something in the folder; sets its path and inode. */
static int watched(int fd, char path[PATH_MAX], struct stat *st) {
    char link[32];
    int before = errno;
    if (!folder_bytes || fd < 0 || fstat(fd, st) || (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode)))
        return errno = before, 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    errno = before;
    if (n < (ssize_t)folder_bytes || memcmp(path, folder, folder_bytes)) return 0;
    path[n] = 0;
    if (path[folder_bytes] && path[folder_bytes] != '/') return 0;
    memmove(path, path + folder_bytes, n - folder_bytes + 1);
    if (*path) memmove(path, path + 1, strlen(path));
    return 1;
}

/* Returns whether a name, which need not exist, is in the folder; sets its path there. */
static int watched_name(int at, const char *name, char path[PATH_MAX]) {
    char parent[PATH_MAX] = ".";
    struct stat st;
    int before = errno;
    size_t n = name ? strlen(name) : 0;
    if (!folder_bytes || !n || n >= PATH_MAX) return 0;
    while (n > 1 && name[n - 1] == '/') n--;
    size_t last = n;
    while (last && name[last - 1] != '/') last--;
    if (last) memcpy(parent, name, last), parent[last] = 0;
    int fd = syscall(SYS_openat, at, parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int is = watched(fd, path, &st);
    if (fd >= 0) close(fd);
    errno = before;
    size_t head = is ? strlen(path) : 0;
    if (!is || head + 1 + n - last >= PATH_MAX) return 0;
    if (head) path[head++] = '/';
    memcpy(path + head, name + last, n - last);
    path[head + n - last] = 0;
    return 1;
}

/* --- the log --- */

/* Between `enter` and `leave` nobody gets the exclusive lock. The descriptor holds lock and log. */
static int enter(void) {
    int before = errno, log = syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (log < 0) die("cannot open the log");
    while (flock(log, LOCK_SH))
        if (errno != EINTR) die("cannot lock the log");
    errno = before;
    return log;
}

static void leave(int log) {
    int before = errno;
    close(log);
    errno = before;
}

static void put_data(int log, enum op op, uint64_t inode, uint64_t a, uint64_t b, const char *path,
                     const void *data, size_t bytes) {
    int before = errno;
    struct header header = {MAGIC, op, inode, a, b, strlen(path), bytes};
    struct iovec parts[] = {{&header, sizeof header}, {(void *)path, header.path_bytes}, {(void *)data, bytes}};
    size_t all = sizeof header + header.path_bytes + bytes;
    if (syscall(SYS_writev, log, parts, 3) != (long)all) die("cannot write the log");
    errno = before;
}

static void put(int log, enum op op, uint64_t inode, uint64_t a, uint64_t b, const char *path) {
    put_data(log, op, inode, a, b, path, "", 0);
}

static void put_text(int log, enum op op, uint64_t inode, const char *path, const char *text) {
    put_data(log, op, inode, 0, 0, path, text, strlen(text));
}

static void unsupported(const char *path, const char *what) {
    int log = enter();
    put_text(log, UNSUPPORTED, 0, path, what);
    leave(log);
}

/* --- opening --- */

static int opened(int at, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    struct stat st;
    int unnamed = (flags & O_TMPFILE) == O_TMPFILE, synced = flags & O_DSYNC;
    if (!folder_bytes || !(unnamed || synced || flags & (O_CREAT | O_TRUNC)))
        return syscall(SYS_openat, at, name, flags, mode);
    int log = enter(), fd = syscall(SYS_openat, at, name, flags, mode);
    if (watched(fd, path, &st) && S_ISREG(st.st_mode)) {
        if (unnamed) put_text(log, UNSUPPORTED, 0, path, "open with O_TMPFILE");
        else put(log, OPEN, st.st_ino, st.st_mode & 07777, !!(flags & O_TRUNC), path);
        if (synced && (flags & O_ACCMODE) != O_RDONLY)
            put_text(log, UNSUPPORTED, 0, path, "open with O_SYNC or O_DSYNC");
    }
    leave(log);
    return fd;
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

#define OPENS(name, parameters, at)                                   \
    int name parameters {                                             \
        va_list rest;                                                 \
        va_start(rest, flags);                                        \
        mode_t mode = mode_of(flags, rest);                           \
        va_end(rest);                                                 \
        return opened(at, path, flags, mode);                         \
    }
OPENS(open, (const char *path, int flags, ...), AT_FDCWD)
OPENS(open64, (const char *path, int flags, ...), AT_FDCWD)
OPENS(openat, (int fd, const char *path, int flags, ...), fd)
OPENS(openat64, (int fd, const char *path, int flags, ...), fd)
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* --- content --- */

/* Writes to a watched file, at an offset, or at the descriptor's position if that is -1. */
static ssize_t wrote(int fd, const char *path, uint64_t inode, const struct iovec *parts, int count,
                     off_t at, int flags) {
    if (flags || (at >= 0 && fcntl(fd, F_GETFL) & O_APPEND)) unsupported(path, "such a write");
    int log = enter();
    ssize_t n = syscall(SYS_pwritev2, fd, parts, (long)count, at, 0L, (long)flags);
    if (n > 0) {
        off_t from = at >= 0 ? at : lseek(fd, 0, SEEK_CUR) - n;
        const void *data = parts[0].iov_base;
        char *flat = NULL;
        if (parts[0].iov_len < (size_t)n) {
            if (!(data = flat = malloc(n))) die("no memory");
            for (size_t done = 0, part = 0; done < (size_t)n; part++) {
                size_t left = n - done, bytes = parts[part].iov_len < left ? parts[part].iov_len : left;
                memcpy(flat + done, parts[part].iov_base, bytes);
                done += bytes;
            }
        }
        put_data(log, WRITE, inode, from, 0, path, data, n);
        free(flat);
    }
    leave(log);
    return n;
}

#define WRITES(name, parameters, parts, count, at, flags, otherwise)   \
    ssize_t name parameters {                                          \
        char path[PATH_MAX];                                           \
        struct stat st;                                                \
        if (!watched(fd, path, &st)) return otherwise;                 \
        return wrote(fd, path, st.st_ino, parts, count, at, flags);    \
    }
#define ONE (&(struct iovec){(void *)from, bytes}), 1
#define WRITES_ONE(name, parameters, at, otherwise) WRITES_(name, parameters, ONE, at, 0, otherwise)
#define WRITES_(...) WRITES(__VA_ARGS__)
WRITES_ONE(write, (int fd, const void *from, size_t bytes), -1, syscall(SYS_write, fd, from, bytes))
WRITES_ONE(pwrite, (int fd, const void *from, size_t bytes, off_t at), at,
           syscall(SYS_pwrite64, fd, from, bytes, at))
WRITES(writev, (int fd, const struct iovec *parts, int count), parts, count, -1, 0,
       syscall(SYS_writev, fd, parts, (long)count))
WRITES(pwritev, (int fd, const struct iovec *parts, int count, off_t at), parts, count, at, 0,
       syscall(SYS_pwritev, fd, parts, (long)count, at, 0L))
WRITES(pwritev2, (int fd, const struct iovec *parts, int count, off_t at, int flags), parts, count, at, flags,
       syscall(SYS_pwritev2, fd, parts, (long)count, at, 0L, (long)flags))
ssize_t pwrite64(int fd, const void *from, size_t bytes, off_t at) { return pwrite(fd, from, bytes, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) { return pwritev(fd, parts, count, at); }
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off_t at, int flags) {
    return pwritev2(fd, parts, count, at, flags);
}

int ftruncate(int fd, off_t bytes) {
    char path[PATH_MAX];
    struct stat st;
    if (!watched(fd, path, &st)) return syscall(SYS_ftruncate, fd, bytes);
    int log = enter(), result = syscall(SYS_ftruncate, fd, bytes);
    if (!result) put(log, TRUNCATE, st.st_ino, bytes, 0, path);
    leave(log);
    return result;
}

int truncate(const char *name, off_t bytes) {
    int fd = syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CLOEXEC);
    int result = fd < 0 ? -1 : ftruncate(fd, bytes);
    if (fd >= 0) leave(fd);
    return result;
}

int fallocate(int fd, int mode, off_t from, off_t bytes) {
    char path[PATH_MAX];
    struct stat st;
    if (!watched(fd, path, &st)) return syscall(SYS_fallocate, fd, (long)mode, from, bytes);
    int log = enter();
    /* Stat again, for the size. */
    if (fstat(fd, &st)) die("cannot look at a file");
    int result = syscall(SYS_fallocate, fd, (long)mode, from, bytes);
    if (!result) {
        int zeroes = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
        off_t inside = st.st_size - from < bytes ? st.st_size - from : bytes;
        if (zeroes && inside > 0) put(log, ZERO, st.st_ino, from, inside, path);
        if (mode & ~(zeroes | FALLOC_FL_KEEP_SIZE)) put_text(log, UNSUPPORTED, 0, path, "such a fallocate");
        else if (!(mode & FALLOC_FL_KEEP_SIZE)) put(log, EXTEND, st.st_ino, from + bytes, 0, path);
    }
    leave(log);
    return result;
}

int posix_fallocate(int fd, off_t from, off_t bytes) {
    int before = errno, result = fallocate(fd, 0, from, bytes) ? errno : 0;
    errno = before;
    return result;
}

int ftruncate64(int fd, off_t bytes) { return ftruncate(fd, bytes); }
int truncate64(const char *name, off_t bytes) { return truncate(name, bytes); }
int fallocate64(int fd, int mode, off_t from, off_t bytes) { return fallocate(fd, mode, from, bytes); }
int posix_fallocate64(int fd, off_t from, off_t bytes) { return posix_fallocate(fd, from, bytes); }

static int into_the_folder(int fd, int error) {
    char path[PATH_MAX];
    struct stat st;
    if (!watched(fd, path, &st)) return 0;
    errno = error;
    return 1;
}

ssize_t copy_file_range(int in, off_t *from, int out, off_t *to, size_t bytes, unsigned flags) {
    if (into_the_folder(out, EXDEV)) return -1;
    return syscall(SYS_copy_file_range, in, from, out, to, bytes, flags);
}

ssize_t sendfile(int out, int in, off_t *from, size_t bytes) {
    return into_the_folder(out, EINVAL) ? -1 : syscall(SYS_sendfile, out, in, from, bytes);
}
ssize_t sendfile64(int out, int in, off_t *from, size_t bytes) { return sendfile(out, in, from, bytes); }

ssize_t splice(int in, off_t *from, int out, off_t *to, size_t bytes, unsigned flags) {
    return into_the_folder(out, EINVAL) ? -1 : syscall(SYS_splice, in, from, out, to, bytes, flags);
}

void *mmap(void *where, size_t bytes, int protection, int flags, int fd, off_t from) {
    char path[PATH_MAX];
    struct stat st;
    if (protection & PROT_WRITE && (flags & MAP_TYPE) != MAP_PRIVATE && !(flags & MAP_ANONYMOUS) &&
        watched(fd, path, &st))
        unsupported(path, "a writable shared mapping");
    return (void *)syscall(SYS_mmap, where, bytes, (long)protection, (long)flags, (long)fd, from);
}
void *mmap64(void *where, size_t bytes, int protection, int flags, int fd, off_t from) {
    return mmap(where, bytes, protection, flags, fd, from);
}

/* --- syncing; sync_file_range guarantees nothing and is not intercepted --- */

static int synced(long call, int fd, int all) {
    char path[PATH_MAX] = "";
    struct stat st;
    if (!folder_bytes || (!all && !watched(fd, path, &st))) return syscall(call, fd);
    uint64_t inode = all ? 0 : st.st_ino, thread = syscall(SYS_gettid);
    int log = enter();
    put(log, SYNC_BEGIN, inode, thread, 0, path);
    leave(log);
    int result = syscall(call, fd);
    if (!result) {
        log = enter();
        put(log, SYNC_END, inode, thread, 0, path);
        leave(log);
    }
    return result;
}

int fsync(int fd) { return synced(SYS_fsync, fd, 0); }
int fdatasync(int fd) { return synced(SYS_fdatasync, fd, 0); }
void sync(void) { synced(SYS_sync, 0, 1); }
int syncfs(int fd) {
    char path[PATH_MAX];
    struct stat st;
    return synced(SYS_syncfs, fd, watched(fd, path, &st));
}

/* --- names --- */

int renameat2(int at, const char *from, int to_at, const char *to, unsigned flags) {
    char path[PATH_MAX] = "", new_path[PATH_MAX];
    int is = watched_name(at, from, path), becomes = watched_name(to_at, to, new_path);
    if (!is && !becomes) return syscall(SYS_renameat2, at, from, to_at, to, flags);
    int log = enter(), result = syscall(SYS_renameat2, at, from, to_at, to, flags);
    if (!result && is && becomes && !(flags & ~RENAME_NOREPLACE))
        put_text(log, RENAME, 0, path, new_path);
    else if (!result)
        put_text(log, UNSUPPORTED, 0, is ? path : new_path, "such a rename");
    leave(log);
    return result;
}
int renameat(int at, const char *from, int to_at, const char *to) { return renameat2(at, from, to_at, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int linkat(int at, const char *from, int to_at, const char *to, int flags) {
    char path[PATH_MAX] = "", new_path[PATH_MAX];
    int is = watched_name(at, from, path), becomes = watched_name(to_at, to, new_path);
    if (!is && !becomes) return syscall(SYS_linkat, at, from, to_at, to, flags);
    int log = enter(), result = syscall(SYS_linkat, at, from, to_at, to, flags);
    if (!result && is && becomes && !flags) put_text(log, LINK, 0, path, new_path);
    else if (!result) put_text(log, UNSUPPORTED, 0, is ? path : new_path, "such a link");
    leave(log);
    return result;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int at, const char *name, int flags) {
    char path[PATH_MAX];
    if (!watched_name(at, name, path)) return syscall(SYS_unlinkat, at, name, flags);
    int log = enter(), result = syscall(SYS_unlinkat, at, name, flags);
    if (!result) put(log, REMOVE, 0, 0, 0, path);
    leave(log);
    return result;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }
int remove(const char *name) {
    int result = unlink(name);
    return result && errno == EISDIR ? rmdir(name) : result;
}

/* The creator of a name logs its inode. */
static void made(int log, enum op op, int at, const char *name, const char *path, const char *data) {
    struct stat st;
    if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW)) die("cannot look at what was made");
    put_data(log, op, st.st_ino, st.st_mode & 07777, 0, path, data, strlen(data));
}

int mkdirat(int at, const char *name, mode_t mode) {
    char path[PATH_MAX];
    if (!watched_name(at, name, path)) return syscall(SYS_mkdirat, at, name, mode);
    int log = enter(), result = syscall(SYS_mkdirat, at, name, mode);
    if (!result) made(log, MKDIR, at, name, path, "");
    leave(log);
    return result;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int symlinkat(const char *target, int at, const char *name) {
    char path[PATH_MAX];
    if (!watched_name(at, name, path)) return syscall(SYS_symlinkat, target, at, name);
    int log = enter(), result = syscall(SYS_symlinkat, target, at, name);
    if (!result) made(log, SYMLINK, at, name, path, target);
    leave(log);
    return result;
}
int symlink(const char *target, const char *name) { return symlinkat(target, AT_FDCWD, name); }
