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

enum kind { COUNT, SIGNAL, ONE_FAILS, ALL_FAIL, NO_ROOM, HALF_READ, HALF_WRITTEN };
enum call { OTHER, TAKES_ROOM, WRITES, READS };

static struct {
  long count; /* of calls so far */
  long at;    /* the number of the one that fails, from 1 */
  int kind;
  int number; /* of the error or of the signal */
  int depth; /* which calls are counted: 0 all, 1 on names in the folder, 2 on those further down */
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

/* 1 of the folder itself and of a name in it, 2 of one further down, 0 of any other. */
static int depth_of(const char *path) {
  size_t length = strlen(state->root);
  if (!length || strncmp(path, state->root, length)) return 0;
  if (path[length] == '\0') return 1;
  return path[length] == '/' ? 1 + !!strchr(path + length + 1, '/') : 0;
}

static int path_of(int descriptor, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  path[length < 0 ? 0 : length] = '\0';
  return length > 0;
}

static int open_below(int descriptor) {
  char path[PATH_MAX];
  return state && path_of(descriptor, path) ? depth_of(path) : 0;
}

static int below(int folder, const char *path) {
  char full[2 * PATH_MAX];
  if (!state || !path) return 0;
  if (path[0] == '/') return depth_of(path);
  if (folder == AT_FDCWD ? !getcwd(full, PATH_MAX) : !path_of(folder, full)) return 0;
  strcat(full, "/");
  strncat(full, path, PATH_MAX - 1);
  return depth_of(full);
}

/* -1 where the call is to fail, 1 where it is to do a part; errno is set. */
static int fault(int depth, enum call call) {
  if (!depth || (state->depth && depth != state->depth)) return 0;
  int takes_room = call == TAKES_ROOM || call == WRITES;
  /* Where only some calls meet the fault, the others are not counted. */
  if (state->kind == NO_ROOM && !takes_room) return 0;
  if (state->kind == HALF_READ && call != READS) return 0;
  if (state->kind == HALF_WRITTEN && call != WRITES) return 0;
  long number = __atomic_add_fetch(&state->count, 1, __ATOMIC_SEQ_CST), at = state->at;
  switch (state->kind) {
    case COUNT: return 0;
    case SIGNAL:
      if (number == at) kill(getpid(), state->number);
      return 0;
    case HALF_READ:
    case HALF_WRITTEN: return number == at;
  }
  if (state->kind == ONE_FAILS ? number != at : number < at) return 0;
  errno = state->number;
  return -1;
}

#define NEXT(name) \
  static __typeof__(&name) next; \
  if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define CALL(result, name, parameters, arguments, depth, call) \
  result name parameters { \
    NEXT(name); \
    return fault(depth, call) < 0 ? -1 : next arguments; \
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
    return fault(below(folder, path), flags & O_CREAT ? TAKES_ROOM : OTHER) < 0 ? -1 : next arguments; \
  }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
OPEN(openat, (int at, const char *path, int flags, ...), at, (at, path, flags, mode))
OPEN(openat64, (int at, const char *path, int flags, ...), at, (at, path, flags, mode))
CALL(int, creat, (const char *path, mode_t mode), (path, mode), below(AT_FDCWD, path), TAKES_ROOM)
CALL(int, creat64, (const char *path, mode_t mode), (path, mode), below(AT_FDCWD, path), TAKES_ROOM)

CALL(int, mkdir, (const char *path, mode_t mode), (path, mode), below(AT_FDCWD, path), TAKES_ROOM)
CALL(int, mkdirat, (int at, const char *path, mode_t mode), (at, path, mode), below(at, path), TAKES_ROOM)
CALL(int, rmdir, (const char *path), (path), below(AT_FDCWD, path), OTHER)
CALL(int, unlink, (const char *path), (path), below(AT_FDCWD, path), OTHER)
CALL(int, unlinkat, (int at, const char *path, int flags), (at, path, flags), below(at, path), OTHER)

#define FROM_TO const char *from, const char *to
#define AT_FROM_TO int a, const char *from, int b, const char *to
CALL(int, rename, (FROM_TO), (from, to), below(AT_FDCWD, to), OTHER)
CALL(int, renameat, (AT_FROM_TO), (a, from, b, to), below(b, to), OTHER)
CALL(int, renameat2, (AT_FROM_TO, unsigned int f), (a, from, b, to, f), below(b, to), OTHER)
CALL(int, link, (FROM_TO), (from, to), below(AT_FDCWD, to), TAKES_ROOM)
CALL(int, linkat, (AT_FROM_TO, int f), (a, from, b, to, f), below(b, to), TAKES_ROOM)
CALL(int, symlink, (FROM_TO), (from, to), below(AT_FDCWD, to), TAKES_ROOM)

CALL(int, fsync, (int fd), (fd), open_below(fd), OTHER)
CALL(int, fdatasync, (int fd), (fd), open_below(fd), OTHER)
CALL(int, ftruncate, (int fd, off_t n), (fd, n), open_below(fd), TAKES_ROOM)
CALL(int, ftruncate64, (int fd, off64_t n), (fd, n), open_below(fd), TAKES_ROOM)
CALL(int, fallocate, (int fd, int m, off_t o, off_t n), (fd, m, o, n), open_below(fd), TAKES_ROOM)
CALL(int, fallocate64, (int fd, int m, off64_t o, off64_t n), (fd, m, o, n), open_below(fd), TAKES_ROOM)

#define PARTS int fd, const struct iovec *parts, int n
CALL(ssize_t, writev, (PARTS), (fd, parts, n), open_below(fd), TAKES_ROOM)
CALL(ssize_t, pwritev, (PARTS, off_t o), (fd, parts, n, o), open_below(fd), TAKES_ROOM)
CALL(ssize_t, pwritev64, (PARTS, off64_t o), (fd, parts, n, o), open_below(fd), TAKES_ROOM)
CALL(ssize_t, pwritev2, (PARTS, off_t o, int f), (fd, parts, n, o, f), open_below(fd), TAKES_ROOM)
CALL(ssize_t, readv, (PARTS), (fd, parts, n), open_below(fd), OTHER)
CALL(ssize_t, preadv, (PARTS, off_t o), (fd, parts, n, o), open_below(fd), OTHER)
CALL(ssize_t, preadv64, (PARTS, off64_t o), (fd, parts, n, o), open_below(fd), OTHER)
CALL(ssize_t, sendfile, (int fd, int in, off_t *o, size_t n), (fd, in, o, n), open_below(fd), TAKES_ROOM)
CALL(ssize_t, sendfile64, (int fd, int in, off64_t *o, size_t n), (fd, in, o, n), open_below(fd), TAKES_ROOM)
CALL(ssize_t, copy_file_range, (int in, off64_t *i, int fd, off64_t *o, size_t n, unsigned int f),
     (in, i, fd, o, n, f), open_below(fd), TAKES_ROOM)

#define BYTES(call, name, parameters, arguments) \
  ssize_t name parameters { \
    NEXT(name); \
    int found = fault(open_below(fd), call); \
    if (found < 0) return -1; \
    if (found > 0) n = (n + 1) / 2; \
    return next arguments; \
  }
BYTES(WRITES, write, (int fd, const void *bytes, size_t n), (fd, bytes, n))
BYTES(WRITES, pwrite, (int fd, const void *bytes, size_t n, off_t o), (fd, bytes, n, o))
BYTES(WRITES, pwrite64, (int fd, const void *bytes, size_t n, off64_t o), (fd, bytes, n, o))
BYTES(READS, read, (int fd, void *bytes, size_t n), (fd, bytes, n))
BYTES(READS, pread, (int fd, void *bytes, size_t n, off_t o), (fd, bytes, n, o))
BYTES(READS, pread64, (int fd, void *bytes, size_t n, off64_t o), (fd, bytes, n, o))
