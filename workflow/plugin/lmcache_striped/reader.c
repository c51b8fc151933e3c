/* Pieces of files to where they belong, by several threads: every byte is copied once or twice, and its checksum taken while
 * it is in the core's cache. */

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80
#endif

enum { BY_GET = -3, UNREAD = -4 }; /* lengths of a piece that is to be asked for by GET: not in a file; not read there */
enum { MOST_DEPTH = 64, MOST_THREADS = 32, MOST_SLOT_BYTES = 4 << 20 };
enum { COPY_BYTES = 4 << 10, HUGE_BYTES = 2 << 20 };

/* One stripe. The caller fills the first six: its chunk's key, the stripe's number, where its `room` bytes belong, and
 * its server. `length`: head and room together when they have come, else why not. The last two are locate.c's. */
struct piece {
  const char *key;
  uint64_t key_bytes;
  char *place;
  uint64_t room;
  uint32_t index, server;
  uint64_t checksum;
  int64_t length;
  char head[HEAD_BYTES];
  int64_t offset;
  int32_t file;
};

/* A read past the page cache that is under way: from `start` on, of which the piece's first byte is `skip` away. */
struct slot {
  struct piece *piece;
  char *buffer;
  int64_t start;
  unsigned skip, size;
};

struct context {
  struct ring ring;
  char *memory;
  size_t memory_bytes, slot_bytes;
  unsigned free_count;
  struct slot slots[MOST_DEPTH + 1], *free[MOST_DEPTH + 1];
};

struct reader {
  unsigned threads, depth;
  int mode, no_ring; /* an errno: io_uring is refused */
  struct context contexts[];
};

struct job {
  struct reader *reader;
  struct files *files;
  struct piece *pieces;
  uint64_t head_bytes, *queue, given, taken;
  size_t slot_bytes;
  int closed, buffered_flags;
  struct clock clock;
  pthread_mutex_t lock;
  pthread_cond_t more;
  unsigned started;
  pthread_t threads[];
};

/* `depth` reads under way in each thread, while one that has come is copied; without io_uring one, in so many threads more. */
struct reader *striped_reader(unsigned threads, unsigned depth, int mode) {
  if (threads == 0 || depth == 0 || depth > MOST_DEPTH) return NULL;
  struct ring ring;
  int refused = mode == CACHED ? 0 : ring_open(&ring, depth);
  if (mode != CACHED && !refused) ring_close(&ring);
  if (refused) {
    threads = threads * depth < MOST_THREADS ? threads * depth : threads < MOST_THREADS ? MOST_THREADS : threads;
    depth = 1;
  }
  struct reader *reader = calloc(1, sizeof *reader + threads * sizeof(struct context));
  if (reader == NULL) return NULL;
  reader->threads = threads;
  reader->depth = depth;
  reader->mode = mode;
  reader->no_ring = refused;
  for (unsigned i = 0; i < threads; i++) reader->contexts[i].ring.fd = -1;
  return reader;
}

void striped_reader_close(struct reader *reader) {
  for (unsigned i = 0; i < reader->threads; i++) {
    struct context *my = reader->contexts + i;
    if (my->ring.fd >= 0) ring_close(&my->ring);
    if (my->memory != NULL) munmap(my->memory, my->memory_bytes);
  }
  free(reader);
}

/* What io_uring was refused with; 0 when it was not. */
int striped_reader_no_ring(const struct reader *reader) { return reader->no_ring; }

/* What has come of a piece. */
struct sink {
  struct piece *piece;
  uint64_t head_bytes, done;
  XXH3_state_t hash;
};

static void sink_begin(struct sink *sink, struct piece *piece, uint64_t head_bytes) {
  sink->piece = piece;
  sink->head_bytes = head_bytes;
  sink->done = 0;
  XXH3_64bits_reset(&sink->hash);
}

static uint64_t sink_left(const struct sink *sink) { return sink->head_bytes + sink->piece->room - sink->done; }

static void sink_end(struct sink *sink) {
  sink->piece->checksum = XXH3_64bits_digest(&sink->hash);
  sink->piece->length = sink->done;
}

/* The next bytes of the piece, as far as they are its own. */
static void pour(struct sink *sink, const char *from, uint64_t size) {
  if (size > sink_left(sink)) size = sink_left(sink);
  if (sink->done < sink->head_bytes) {
    uint64_t some = sink->head_bytes - sink->done < size ? sink->head_bytes - sink->done : size;
    memcpy(sink->piece->head + sink->done, from, some);
    sink->done += some;
    from += some;
    size -= some;
  }
  while (size > 0) {
    uint64_t some = size < COPY_BYTES ? size : COPY_BYTES;
    char *to = sink->piece->place + (sink->done - sink->head_bytes);
    memcpy(to, from, some);
    XXH3_64bits_update(&sink->hash, to, some);
    sink->done += some;
    from += some;
    size -= some;
  }
}

/* By the page cache, straight into place, block after block. */
static void read_cached(struct job *job, struct piece *piece) {
  const struct file *file = job->files->all[piece->file];
  struct sink sink;
  sink_begin(&sink, piece, job->head_bytes);
  while (sink_left(&sink) > 0) {
    uint64_t head = sink.done < sink.head_bytes ? sink.head_bytes - sink.done : 0;
    uint64_t body = sink_left(&sink) - head;
    if (body > BLOCK_BYTES) body = BLOCK_BYTES;
    char *place = piece->place + (sink.done + head - sink.head_bytes);
    struct iovec parts[] = {{piece->head + sink.done, head}, {place, body}};
    int flags = __atomic_load_n(&job->buffered_flags, __ATOMIC_RELAXED);
    if (file->direct >= 0 || job->reader->mode == CACHED) flags = 0;
    ssize_t count = preadv2(file->cached, head ? parts : parts + 1, head ? 2 : 1, piece->offset + sink.done, flags);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EOPNOTSUPP && flags) {
      __atomic_store_n(&job->buffered_flags, 0, __ATOMIC_RELAXED);
      continue;
    }
    if (count <= 0) return;
    if ((uint64_t)count > head) XXH3_64bits_update(&sink.hash, place, count - head);
    sink.done += count;
  }
  sink_end(&sink);
}

/* Past the page cache, buffer after buffer, waiting for each. */
static void read_direct(struct job *job, struct context *my, struct piece *piece) {
  const struct file *file = job->files->all[piece->file];
  char *buffer = my->free[my->free_count - 1]->buffer;
  struct sink sink;
  sink_begin(&sink, piece, job->head_bytes);
  while (sink_left(&sink) > 0) {
    int64_t at = piece->offset + sink.done, start = at & ~(int64_t)(PAGE - 1);
    uint64_t skip = at - start, size = (skip + sink_left(&sink) + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    ssize_t count = pread(file->direct, buffer, size < my->slot_bytes ? size : my->slot_bytes, start);
    if (count < 0 && errno == EINTR) continue;
    if (count <= (ssize_t)skip) {
      read_cached(job, piece);
      return;
    }
    pour(&sink, buffer + skip, count - skip);
  }
  sink_end(&sink);
}

static int refused(const struct reader *reader) { return __atomic_load_n(&reader->no_ring, __ATOMIC_RELAXED); }

static void refuse(struct reader *reader, int error) {
  if (error) __atomic_store_n(&reader->no_ring, error, __ATOMIC_RELAXED);
}

/* Buffers, and a ring unless it is refused; 0 without memory. */
static int ready(struct job *job, struct context *my) {
  struct reader *reader = job->reader;
  unsigned count = reader->depth + 1;
  if (my->slot_bytes < job->slot_bytes) {
    if (my->memory != NULL) munmap(my->memory, my->memory_bytes);
    my->slot_bytes = 0;
    my->memory_bytes = (count * job->slot_bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
    my->memory = mmap(NULL, my->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (my->memory == MAP_FAILED) {
      my->memory = NULL;
      return 0;
    }
    madvise(my->memory, my->memory_bytes, MADV_HUGEPAGE);
    my->slot_bytes = job->slot_bytes;
    for (unsigned i = 0; i < count; i++) {
      my->slots[i].buffer = my->memory + i * my->slot_bytes;
      my->free[i] = my->slots + i;
    }
    my->free_count = count;
  }
  if (my->ring.fd < 0 && !refused(reader)) refuse(reader, ring_open(&my->ring, reader->depth));
  return 1;
}

static void ended(struct job *job, const struct piece *piece) {
  if (piece->length < 0) return;
  pthread_mutex_lock(&job->lock);
  moved(&job->clock, piece->length);
  pthread_mutex_unlock(&job->lock);
}

/* Begin to read a piece; whether that goes on after it. */
static int begin(struct job *job, struct context *my, struct piece *piece) {
  const struct file *file = job->files->all[piece->file];
  uint64_t size = job->head_bytes + piece->room;
  int past = file->direct >= 0 && !(job->reader->mode == AUTO && is_resident(file, piece->offset, size));
  if (!past || !ready(job, my)) {
    read_cached(job, piece);
  } else {
    int64_t start = piece->offset & ~(int64_t)(PAGE - 1);
    uint64_t skip = piece->offset - start, whole = (skip + size + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    if (my->ring.fd >= 0 && whole <= my->slot_bytes) {
      struct slot *slot = my->free[--my->free_count];
      slot->piece = piece;
      slot->start = start;
      slot->skip = skip;
      slot->size = whole;
      ring_read(&my->ring, file->direct, slot->buffer, whole, start, slot - my->slots);
      if (ring_enter(&my->ring, 1, 0) == 0) return 1;
      my->free[my->free_count++] = slot;
      refuse(job->reader, EIO);
      ring_close(&my->ring);
    }
    read_direct(job, my, piece);
  }
  ended(job, piece);
  return 0;
}

static void finish(struct job *job, struct context *my, struct slot *slot, int result) {
  struct piece *piece = slot->piece;
  if (result >= 0 && (uint64_t)result >= slot->skip + job->head_bytes + piece->room) {
    struct sink sink;
    sink_begin(&sink, piece, job->head_bytes);
    pour(&sink, slot->buffer + slot->skip, result - slot->skip);
    sink_end(&sink);
  } else {
    read_cached(job, piece);
  }
  my->free[my->free_count++] = slot;
  ended(job, piece);
}

/* The next piece, NULL when there is none; wait: until there is one or there will be none. */
static struct piece *next(struct job *job, int wait) {
  pthread_mutex_lock(&job->lock);
  while (wait && job->taken == job->given && !job->closed) pthread_cond_wait(&job->more, &job->lock);
  if (job->clock.end_s < now_s()) job->taken = job->given;
  struct piece *piece = job->taken < job->given ? job->pieces + job->queue[job->taken++] : NULL;
  pthread_mutex_unlock(&job->lock);
  return piece;
}

static void work(struct job *job, struct context *my) {
  unsigned under_way = 0;
  for (;;) {
    struct piece *piece;
    while (under_way < job->reader->depth && (piece = next(job, under_way == 0)) != NULL)
      under_way += begin(job, my, piece);
    if (under_way == 0) return;
    uint64_t tag;
    int result;
    if (ring_enter(&my->ring, 0, 1)) { /* what is under way stays unread, and neither ring nor buffers are used again */
      refuse(job->reader, EIO);
      if (my->ring.fd >= 0) ring_close(&my->ring);
      my->slot_bytes = 0;
      return;
    }
    while (my->ring.fd >= 0 && ring_take(&my->ring, &tag, &result)) {
      under_way--;
      if ((piece = next(job, 0)) != NULL) under_way += begin(job, my, piece);
      finish(job, my, my->slots + tag, result);
    }
  }
}

struct start {
  struct job *job;
  unsigned number;
};

static void *helper(void *given) {
  struct start start = *(struct start *)given;
  free(given);
  work(start.job, start.job->reader->contexts + start.number);
  return NULL;
}

static struct job *job_begin(struct reader *reader, struct piece *pieces, uint64_t count, struct files *files, uint64_t head_bytes,
                      const struct deadline *time) {
  struct job *job = calloc(1, sizeof *job + reader->threads * sizeof(pthread_t));
  uint64_t *queue = malloc(count * sizeof *queue + 1);
  if (job == NULL || queue == NULL) {
    free(job);
    free(queue);
    return NULL;
  }
  job->reader = reader;
  job->files = files;
  job->pieces = pieces;
  job->queue = queue;
  job->head_bytes = head_bytes;
  job->buffered_flags = RWF_DONTCACHE;
  job->clock = begun(time);
  for (uint64_t i = 0; i < count; i++) {
    uint64_t size = (head_bytes + pieces[i].room + 2 * PAGE - 1) / PAGE * PAGE;
    if (size > MOST_SLOT_BYTES) size = MOST_SLOT_BYTES;
    if (size > job->slot_bytes) job->slot_bytes = size;
  }
  pthread_mutex_init(&job->lock, NULL);
  pthread_cond_init(&job->more, NULL);
  return job;
}

/* A helper for each piece that is given, as long as there are threads; the caller is one of them, at the end. */
static void start_helper(struct job *job) {
  if (job->started + 1 >= job->reader->threads) return;
  struct start *start = malloc(sizeof *start);
  if (start == NULL) return;
  *start = (struct start){job, job->started + 1};
  sigset_t all, kept;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &kept);
  if (pthread_create(job->threads + job->started, NULL, helper, start) == 0)
    job->started++;
  else
    free(start);
  pthread_sigmask(SIG_SETMASK, &kept, NULL);
}

static void job_give(struct job *job, uint64_t number) {
  job->pieces[number].length = UNREAD;
  pthread_mutex_lock(&job->lock);
  job->queue[job->given++] = number;
  pthread_cond_signal(&job->more);
  pthread_mutex_unlock(&job->lock);
  start_helper(job);
}

/* See all to their end. */
static void job_end(struct job *job) {
  pthread_mutex_lock(&job->lock);
  job->closed = 1;
  pthread_cond_broadcast(&job->more);
  pthread_mutex_unlock(&job->lock);
  work(job, job->reader->contexts);
  for (unsigned i = 0; i < job->started; i++) pthread_join(job->threads[i], NULL);
  pthread_mutex_destroy(&job->lock);
  pthread_cond_destroy(&job->more);
  free(job->queue);
  free(job);
}
