/* Counts the calls to the file system below a folder and has the n-th of them fail.

   It is loaded before the C library: LD_PRELOAD. What it does is set by fault_injection.py, in a
   file that is mapped into each process of a run: they count together. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { COUNT, SIGNAL, ONE_FAILS, ALL_FAIL, NO_ROOM, HALF };

static struct {
  long count; /* of calls so far */
  long at;    /* the number of the one that fails, from 1 */
  int kind;
  int number; /* of the error or of the signal */
  int threads; /* whose calls are counted: those of all, of the first, of the others */
  int unused;
  char root[PATH_MAX];
} *state;

__attribute__((constructor)) static void map_state(void) {
  const char *path = getenv("FAULT_STATE");
  int descriptor = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
  if (descriptor < 0) return;
  void *mapped = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  close(descriptor);
  if (mapped != MAP_FAILED) state = mapped;
}

static int starts_below(const char *path) {
  size_t length = strlen(state->root);
  return length && !strncmp(path, state->root, length) &&
         (path[length] == '/' || path[length] == '\0');
}

static int open_below(int descriptor) {
  char link[64], path[PATH_MAX];
  if (!state) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = '\0';
  return starts_below(path);
}

static int below(int folder, const char *path) {
  char full[2 * PATH_MAX];
  if (!state || !path) return 0;
  if (path[0] == '/') return starts_below(path);
  if (folder != AT_FDCWD) return open_below(folder);
  if (!getcwd(full, PATH_MAX)) return 0;
  strcat(full, "/");
  strncat(full, path, PATH_MAX - 1);
  return starts_below(full);
}

/* -1 where the call is to fail, 1 where it is to do a part; errno is set. */
static int fault(int is_below, int takes_room) {
  if (!is_below || !state) return 0;
  int is_first = gettid() == getpid();
  if (state->threads && is_first != (state->threads == 1)) return 0;
  long number = __atomic_add_fetch(&state->count, 1, __ATOMIC_SEQ_CST), at = state->at;
  int hit = 0;
  switch (state->kind) {
    case SIGNAL:
      if (number == at) kill(getpid(), state->number);
      return 0;
    case ONE_FAILS: hit = number == at; break;
    case ALL_FAIL: hit = number >= at; break;
    case NO_ROOM: hit = number >= at && takes_room; break;
    case HALF: return number == at;
  }
  if (hit) errno = state->number;
  return -hit;
}

#define NEXT(name) \
  static __typeof__(&name) next; \
  if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define CALL(result, name, parameters, arguments, is_below, takes_room) \
  result name parameters { \
    NEXT(name); \
    return fault(is_below, takes_room) < 0 ? -1 : next arguments; \
  }

#define OPEN(name, parameters, folder, arguments) \
  int name parameters { \
    NEXT(name); \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
      va_list more; \
      va_start(more, flags); \
      mode = va_arg(more, mode_t); \
      va_end(more); \
    } \
    return fault(below(folder, path), !!(flags & O_CREAT)) < 0 ? -1 : next arguments; \
  }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPEN(openat, (int at, const char *path, int flags, ...), at, (at, path, flags, mode))
OPEN(openat64, (int at, const char *path, int flags, ...), at, (at, path, flags, mode))
CALL(int, creat, (const char *path, mode_t mode), (path, mode), below(AT_FDCWD, path), 1)
CALL(int, creat64, (const char *path, mode_t mode), (path, mode), below(AT_FDCWD, path), 1)

CALL(int, mkdir, (const char *path, mode_t mode), (path, mode), below(AT_FDCWD, path), 1)
CALL(int, mkdirat, (int at, const char *path, mode_t mode), (at, path, mode), below(at, path), 1)
CALL(int, rmdir, (const char *path), (path), below(AT_FDCWD, path), 0)
CALL(int, unlink, (const char *path), (path), below(AT_FDCWD, path), 0)
CALL(int, unlinkat, (int at, const char *path, int flags), (at, path, flags), below(at, path), 0)

#define FROM_TO const char *from, const char *to
#define AT_FROM_TO int a, const char *from, int b, const char *to
CALL(int, rename, (FROM_TO), (from, to), below(AT_FDCWD, to), 0)
CALL(int, renameat, (AT_FROM_TO), (a, from, b, to), below(b, to), 0)
CALL(int, renameat2, (AT_FROM_TO, unsigned int f), (a, from, b, to, f), below(b, to), 0)
CALL(int, link, (FROM_TO), (from, to), below(AT_FDCWD, to), 1)
CALL(int, linkat, (AT_FROM_TO, int f), (a, from, b, to, f), below(b, to), 1)
CALL(int, symlink, (FROM_TO), (from, to), below(AT_FDCWD, to), 1)

CALL(int, fsync, (int fd), (fd), open_below(fd), 0)
CALL(int, fdatasync, (int fd), (fd), open_below(fd), 0)
CALL(int, ftruncate, (int fd, off_t n), (fd, n), open_below(fd), 1)
CALL(int, ftruncate64, (int fd, off64_t n), (fd, n), open_below(fd), 1)
CALL(int, fallocate, (int fd, int m, off_t o, off_t n), (fd, m, o, n), open_below(fd), 1)
CALL(int, fallocate64, (int fd, int m, off64_t o, off64_t n), (fd, m, o, n), open_below(fd), 1)

#define PARTS int fd, const struct iovec *parts, int n
CALL(ssize_t, writev, (PARTS), (fd, parts, n), open_below(fd), 1)
CALL(ssize_t, pwritev, (PARTS, off_t o), (fd, parts, n, o), open_below(fd), 1)
CALL(ssize_t, pwritev64, (PARTS, off64_t o), (fd, parts, n, o), open_below(fd), 1)
CALL(ssize_t, pwritev2, (PARTS, off_t o, int f), (fd, parts, n, o, f), open_below(fd), 1)
CALL(ssize_t, sendfile, (int fd, int in, off_t *o, size_t n), (fd, in, o, n), open_below(fd), 1)
CALL(ssize_t, sendfile64, (int fd, int in, off64_t *o, size_t n), (fd, in, o, n), open_below(fd), 1)
CALL(ssize_t, copy_file_range, (int in, off64_t *i, int fd, off64_t *o, size_t n, unsigned int f),
     (in, i, fd, o, n, f), open_below(fd), 1)

#define WRITE(name, parameters, arguments) \
  ssize_t name parameters { \
    NEXT(name); \
    int found = fault(open_below(fd), 1); \
    if (found < 0) return -1; \
    if (found > 0) n = (n + 1) / 2; \
    return next arguments; \
  }
WRITE(write, (int fd, const void *bytes, size_t n), (fd, bytes, n))
WRITE(pwrite, (int fd, const void *bytes, size_t n, off_t o), (fd, bytes, n, o))
WRITE(pwrite64, (int fd, const void *bytes, size_t n, off64_t o), (fd, bytes, n, o))
