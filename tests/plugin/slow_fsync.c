/* LD_PRELOAD of a server: a file is on its device when a device of SLOW_BYTES_PER_S would have written what is new of it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 1 << 16 };
static atomic_long written[FILES];

ssize_t write(int fd, const void *bytes, size_t count) {
  ssize_t done = ((ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(fd, bytes, count);
  if (done > 0 && fd < FILES) written[fd] += done;
  return done;
}

static void wait_for(int fd) {
  double left_s = fd < FILES ? atomic_exchange(written + fd, 0) / atof(getenv("SLOW_BYTES_PER_S")) : 0;
  struct timespec left = {(time_t)left_s, (long)((left_s - (time_t)left_s) * 1e9)};
  nanosleep(&left, NULL);
}

int fdatasync(int fd) {
  wait_for(fd);
  return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}

int fsync(int fd) {
  wait_for(fd);
  return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
