/* io_uring by its system calls: reads alone, one thread to a ring. Its memory is as linux/io_uring.h has it. */

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* io_uring of one thread. */
struct ring {
  int fd;
  unsigned entries, *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
  void *rings, *sqes, *cqes;
  size_t rings_bytes, sqes_bytes;
};

static void ring_close(struct ring *ring) {
  if (ring->rings != MAP_FAILED && ring->rings != NULL) munmap(ring->rings, ring->rings_bytes);
  if (ring->sqes != MAP_FAILED && ring->sqes != NULL) munmap(ring->sqes, ring->sqes_bytes);
  if (ring->fd >= 0) close(ring->fd);
  *ring = (struct ring){.fd = -1};
}

/* 0 or an errno. */
static int ring_open(struct ring *ring, unsigned entries) {
  struct io_uring_params is = {0};
  *ring = (struct ring){.fd = syscall(__NR_io_uring_setup, entries, &is)};
  if (ring->fd < 0) return errno;
  size_t sq = is.sq_off.array + is.sq_entries * sizeof(unsigned);
  size_t cq = is.cq_off.cqes + is.cq_entries * sizeof(struct io_uring_cqe);
  ring->rings_bytes = sq > cq ? sq : cq;
  ring->sqes_bytes = is.sq_entries * sizeof(struct io_uring_sqe);
  ring->rings = ring->sqes = MAP_FAILED;
  errno = ENOSYS; /* before Linux 5.4 the two are apart */
  if (is.features & IORING_FEAT_SINGLE_MMAP) {
    int prot = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;
    ring->rings = mmap(NULL, ring->rings_bytes, prot, flags, ring->fd, IORING_OFF_SQ_RING);
    ring->sqes = mmap(NULL, ring->sqes_bytes, prot, flags, ring->fd, IORING_OFF_SQES);
  }
  if (ring->rings == MAP_FAILED || ring->sqes == MAP_FAILED) {
    int error = errno;
    ring_close(ring);
    return error;
  }
  char *at = ring->rings;
  ring->entries = is.sq_entries;
  ring->sq_tail = (unsigned *)(at + is.sq_off.tail);
  ring->sq_mask = (unsigned *)(at + is.sq_off.ring_mask);
  ring->sq_array = (unsigned *)(at + is.sq_off.array);
  ring->cq_head = (unsigned *)(at + is.cq_off.head);
  ring->cq_tail = (unsigned *)(at + is.cq_off.tail);
  ring->cq_mask = (unsigned *)(at + is.cq_off.ring_mask);
  ring->cqes = at + is.cq_off.cqes;
  return 0;
}

static void ring_read(struct ring *ring, int fd, void *place, unsigned size, int64_t offset, uint64_t tag) {
  unsigned tail = *ring->sq_tail, at = tail & *ring->sq_mask;
  struct io_uring_sqe *asked = (struct io_uring_sqe *)ring->sqes + at;
  memset(asked, 0, sizeof *asked);
  asked->opcode = 22; /* IORING_OP_READ, which older headers lack */
  asked->fd = fd;
  asked->addr = (uintptr_t)place;
  asked->len = size;
  asked->off = offset;
  asked->user_data = tag;
  ring->sq_array[at] = at;
  __atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
}

/* Submit so many, wait for so many; 0 or an errno. */
static int ring_enter(struct ring *ring, unsigned submit, unsigned wait) {
  while (submit > 0 || wait > 0) {
    int count = syscall(__NR_io_uring_enter, ring->fd, submit, wait, wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    submit -= count;
    if (submit == 0) break;
  }
  return 0;
}

/* Whether one has ended: its tag and what the read returned. */
static int ring_take(struct ring *ring, uint64_t *tag, int *result) {
  unsigned head = *ring->cq_head;
  if (head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE)) return 0;
  struct io_uring_cqe *ended = (struct io_uring_cqe *)ring->cqes + (head & *ring->cq_mask);
  *tag = ended->user_data;
  *result = ended->res;
  __atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
  return 1;
}
