/* Files that a server names, opened below its folder and nowhere else. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { CACHED, DIRECT, AUTO }; /* read: by the page cache, past it, or past it what is not in it */
enum { PAGE = 4096, MOST_FILES = 256, MOST_PATH = 1024 };

/* A regular file below a folder. error: why it is not open. direct: its descriptor with O_DIRECT, -1 without. */
struct file {
  uint64_t name;
  int folder, error, cached, direct;
  char path[MOST_PATH];
};

struct files {
  struct file *all[MOST_FILES];
  int count, last, mode;
};

enum { TMPFS = 0x01021994, RAMFS = 0x858458f6, CACHESTAT = 451 };

/* A regular file, for reading, with `flags`; -1 and errno without. Component by component, none of them a link or the folder
 * above: no path leads out of the folder. A FIFO does not hang. */
static int open_below(int folder, const char *path, int flags, struct stat *is) {
  int at = folder, fd = -1;
  for (;;) {
    char name[256];
    size_t size = strcspn(path, "/");
    int dots = path[0] == '.' && (size == 1 || (size == 2 && path[1] == '.'));
    if (size == 0 || size >= sizeof name || dots) {
      errno = EINVAL;
      break;
    }
    memcpy(name, path, size);
    name[size] = '\0';
    int last = path[size] == '\0';
    int how = last ? O_RDONLY | O_NONBLOCK | O_NOCTTY : O_PATH | O_DIRECTORY;
    int next = openat(at, name, how | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0) break;
    if (last) {
      fd = next;
      break;
    }
    if (at != folder) close(at);
    at = next;
    path += size + 1;
  }
  int error = errno;
  if (at != folder) close(at);
  if (fd >= 0) {
    int found = fstat(fd, is) == 0 && S_ISREG(is->st_mode);
    if (!found) errno = EINVAL;
    if (found && fcntl(fd, F_SETFL, flags) == 0) return fd;
    error = errno;
    close(fd);
  }
  errno = error;
  return -1;
}

static int is_memory(int fd) {
  struct statfs of;
  return fstatfs(fd, &of) == 0 && (of.f_type == TMPFS || of.f_type == RAMFS);
}

static struct file *opened(struct files *files, uint64_t name, int folder, const char *path, size_t size) {
  struct file *file = malloc(sizeof *file);
  if (file == NULL) return NULL;
  *file = (struct file){.name = name, .folder = folder, .cached = -1, .direct = -1};
  memcpy(file->path, path, size);
  file->path[size] = '\0';
  struct stat is, again;
  file->cached = strlen(file->path) == size ? open_below(folder, file->path, 0, &is) : -1;
  if (file->cached < 0) {
    file->error = strlen(file->path) == size ? errno : EINVAL;
    return file;
  }
  if (files->mode == CACHED || is_memory(file->cached)) return file;
  file->direct = open_below(folder, file->path, O_DIRECT, &again);
  if (file->direct >= 0 && (again.st_ino != is.st_ino || again.st_dev != is.st_dev)) {
    close(file->direct);
    file->direct = -1;
  }
  return file;
}

/* The number of the file `path` (`size` bytes) below the descriptor `folder`, opened when it is new; -1 when there are too
 * many or the path is too long. */
static int file_of(struct files *files, int folder, const char *path, size_t size) {
  if (size == 0 || size >= MOST_PATH) return -1;
  uint64_t name = XXH3_64bits_withSeed(path, size, folder);
  for (int i = 0, at = files->last; i < files->count; i++, at = (at + 1) % files->count) {
    struct file *file = files->all[at];
    if (file->name == name && file->folder == folder && strlen(file->path) == size && !memcmp(file->path, path, size))
      return files->last = at;
  }
  if (files->count == MOST_FILES) return -1;
  struct file *file = opened(files, name, folder, path, size);
  if (file == NULL) return -1;
  files->all[files->count] = file;
  return files->last = files->count++;
}

static void close_files(struct files *files) {
  for (int i = 0; i < files->count; i++) {
    if (files->all[i]->cached >= 0) close(files->all[i]->cached);
    if (files->all[i]->direct >= 0) close(files->all[i]->direct);
    free(files->all[i]);
  }
  files->count = files->last = 0;
}

/* Whether all of it is in the page cache, as cachestat says (Linux 6.5); a read that does not wait would begin to read ahead. */
static int is_resident(const struct file *file, int64_t offset, uint64_t size) {
  struct {
    uint64_t offset, length;
  } range = {offset, size};
  struct {
    uint64_t cached, dirty, writeback, evicted, lately;
  } pages = {0};
  uint64_t wanted = (offset + size + PAGE - 1) / PAGE - offset / PAGE;
  return syscall(CACHESTAT, file->cached, &range, &pages, 0) == 0 && pages.cached >= wanted;
}
