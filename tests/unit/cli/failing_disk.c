/* A disk that fails at its N-th write, for LD_PRELOAD.

   The file that FAILING_DISK names is shared by all processes and holds a struct control. Every call that would
   write to, or create something in, the folder counts, whichever process makes it. From the N-th on (or at the
   N-th alone) they fail. Calls inside libc itself (fwrite, fopen) do not pass through here. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct control {
    _Atomic long count;
    long fail_at; /* 0: never */
    long once;
    long error;
    char folder[PATH_MAX];
};

static struct control *control;

__attribute__((constructor)) static void start(void) {
    const char *name = getenv("FAILING_DISK");
    int file = name ? (int)syscall(SYS_openat, AT_FDCWD, name, O_RDWR, 0) : -1;
    if (file < 0) return;
    void *memory = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory != MAP_FAILED) control = memory;
    close(file);
}

/* Whether a path is in the folder; a relative one counts if the working folder is. */
static int inside(const char *path) {
    size_t length = strlen(control->folder);
    return length && strncmp(path, control->folder, length) == 0;
}

static int path_inside(int at, const char *path) {
    char folder[PATH_MAX];
    if (!control || !path) return 0;
    if (path[0] == '/') return inside(path);
    if (at != AT_FDCWD) return 0;
    return syscall(SYS_getcwd, folder, sizeof folder) > 0 && inside(folder);
}

static int file_inside(int file) {
    char link[64] = "/proc/self/fd/", digits[16], target[PATH_MAX];
    int place = sizeof digits - 1;
    if (!control || file < 3) return 0;
    digits[place] = 0;
    for (int rest = file; place == sizeof digits - 1 || rest; rest /= 10) digits[--place] = (char)('0' + rest % 10);
    strcat(link, digits + place);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, target, sizeof target - 1);
    if (length <= 0) return 0;
    target[length] = 0;
    return inside(target);
}

/* Counts one write; whether it fails. */
static int fails(void) {
    long number = atomic_fetch_add(&control->count, 1) + 1;
    if (!control->fail_at || (control->once ? number != control->fail_at : number < control->fail_at)) return 0;
    errno = (int)control->error;
    return 1;
}

#define FILE_CALL(type, name, number, parameters, ...)                   \
    type name parameters {                                               \
        if (file_inside(file) && fails()) return -1;                     \
        return (type)syscall(number, __VA_ARGS__);                       \
    }
#define PATH_CALL(name, at, path, number, parameters, ...)               \
    int name parameters {                                                \
        if (path_inside(at, path) && fails()) return -1;                 \
        return (int)syscall(number, __VA_ARGS__);                        \
    }

FILE_CALL(ssize_t, write, SYS_write, (int file, const void *data, size_t size), file, data, size)
FILE_CALL(ssize_t, pwrite, SYS_pwrite64, (int file, const void *data, size_t size, off_t at), file, data, size, at)
FILE_CALL(ssize_t, pwrite64, SYS_pwrite64, (int file, const void *data, size_t size, off64_t at), file, data, size, at)
FILE_CALL(ssize_t, writev, SYS_writev, (int file, const struct iovec *data, int count), file, data, count)
FILE_CALL(int, ftruncate, SYS_ftruncate, (int file, off_t size), file, size)
FILE_CALL(int, ftruncate64, SYS_ftruncate, (int file, off64_t size), file, size)
FILE_CALL(int, fsync, SYS_fsync, (int file), file)
FILE_CALL(int, fdatasync, SYS_fdatasync, (int file), file)
FILE_CALL(ssize_t, sendfile, SYS_sendfile, (int file, int from, off_t *at, size_t size), file, from, at, size)
FILE_CALL(ssize_t, sendfile64, SYS_sendfile, (int file, int from, off64_t *at, size_t size), file, from, at, size)
FILE_CALL(ssize_t, copy_file_range, SYS_copy_file_range,
          (int from, off64_t *start, int file, off64_t *at, size_t size, unsigned flags), from, start, file, at, size,
          flags)

/* This one returns the error. */
int posix_fallocate(int file, off_t at, off_t size) {
    if (file_inside(file) && fails()) return errno;
    return syscall(SYS_fallocate, file, 0, at, size) ? errno : 0;
}

int posix_fallocate64(int file, off64_t at, off64_t size) { return posix_fallocate(file, at, size); }

PATH_CALL(rename, AT_FDCWD, to, SYS_renameat2, (const char *from, const char *to), AT_FDCWD, from, AT_FDCWD, to, 0)
PATH_CALL(renameat, at, to, SYS_renameat2, (int before, const char *from, int at, const char *to), before, from, at,
          to, 0)
PATH_CALL(link, AT_FDCWD, to, SYS_linkat, (const char *from, const char *to), AT_FDCWD, from, AT_FDCWD, to, 0)
PATH_CALL(symlink, AT_FDCWD, to, SYS_symlinkat, (const char *from, const char *to), from, AT_FDCWD, to)
PATH_CALL(mkdir, AT_FDCWD, path, SYS_mkdirat, (const char *path, mode_t mode), AT_FDCWD, path, mode)
PATH_CALL(mkdirat, at, path, SYS_mkdirat, (int at, const char *path, mode_t mode), at, path, mode)

static int open_at(int at, const char *path, int flags, va_list more) {
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    struct stat found;
    int creates = (flags & O_CREAT) && path_inside(at, path) && lstat(path, &found) != 0;
    if (creates && fails()) return -1;
    return (int)syscall(SYS_openat, at, path, flags, mode);
}

#define OPEN_CALL(name, at, ...)                 \
    int name(__VA_ARGS__, ...) {                 \
        va_list more;                            \
        va_start(more, flags);                   \
        int file = open_at(at, path, flags, more); \
        va_end(more);                            \
        return file;                             \
    }

OPEN_CALL(open, AT_FDCWD, const char *path, int flags)
OPEN_CALL(open64, AT_FDCWD, const char *path, int flags)
OPEN_CALL(openat, at, int at, const char *path, int flags)
OPEN_CALL(openat64, at, int at, const char *path, int flags)
