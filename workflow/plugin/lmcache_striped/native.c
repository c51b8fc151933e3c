/* GETs of stripes over one RESP connection, without Python: many in flight, received where they belong, checksums on the
 * way. native.py calls it. What is included at the end reads stripes from files, which direct.py calls, and looks them up. Linux. */

#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>

enum { HEAD_BYTES = 64, AT_ONCE = 64, BUFFER_BYTES = 16 << 10, LINE_BYTES = 4 << 10, BLOCK_BYTES = 256 << 10 };
enum { CLOSED = -1, NOT_RESP = -2, TOO_MUCH = -3, LONG_LINE = -4, NOT_AS_LONG = -5 }; /* results; an errno above 0 */
enum { MISSING = -1, REFUSED = -2 }; /* lengths of a stripe that did not come */

/* A Deadline (deadline.py), of which left_s are left: `bytes` of values and commands put it off by 1 / bytes_per_s each, never
 * to more than timeout_s from now; a command that was answered counts for command_bytes. */
struct deadline {
  double timeout_s, left_s, bytes_per_s;
  uint64_t bytes, command_bytes;
};

struct clock {
  struct deadline time;
  double end_s;
};

struct input {
  int fd;
  struct clock clock;
  double armed_s;
  size_t at, have;
  char buffer[BUFFER_BYTES];
};

/* Where a value's bytes belong: its head, then the rest. */
struct value {
  char *head;
  uint64_t head_bytes;
  char *place;
  uint64_t room;
};

/* One GET. The caller fills the first four; `checksum` is XXH3 of the `room` bytes at `place`, `head` what came before
 * them. A value of another length than head and room together is thrown away. */
struct stripe {
  const char *request;
  uint64_t request_bytes;
  char *place;
  uint64_t room;
  uint64_t checksum;
  int64_t length;
  char head[HEAD_BYTES];
};

static double now_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec * 1e-9;
}

/* Bytes were sent or received. */
static void moved(struct clock *clock, uint64_t count) {
  struct deadline *time = &clock->time;
  if (count > time->bytes) count = time->bytes;
  time->bytes -= count;
  double end_s = clock->end_s + count / time->bytes_per_s, most_s = now_s() + time->timeout_s;
  clock->end_s = end_s < most_s ? end_s : most_s;
}

static struct clock begun(const struct deadline *time) {
  return (struct clock){.time = *time, .end_s = now_s() + time->left_s};
}

/* Have the kernel wait as long as there is time, to a tenth of it. */
static int arm(struct input *in) {
  double left_s = in->clock.end_s - now_s();
  if (left_s <= 0) return ETIMEDOUT;
  if (in->armed_s >= 0.9 * left_s && in->armed_s <= 1.1 * left_s) return 0;
  in->armed_s = left_s < 1e-3 ? 1e-3 : left_s; /* 0 is for ever */
  struct timeval wait = {.tv_sec = (time_t)in->armed_s};
  wait.tv_usec = (suseconds_t)((in->armed_s - wait.tv_sec) * 1e6);
  if (setsockopt(in->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait)) return errno;
  return setsockopt(in->fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) ? errno : 0;
}

static int failure(ssize_t count) { return count == 0 ? CLOSED : errno == EWOULDBLOCK ? ETIMEDOUT : errno; }

/* At least a byte to `place`; how many there were in `came`. */
static int receive(struct input *in, char *place, size_t size, int flags, size_t *came) {
  ssize_t count;
  do {
    int error = arm(in);
    if (error) return error;
    count = recv(in->fd, place, size, flags);
  } while (count < 0 && errno == EINTR);
  if (count <= 0) return failure(count);
  moved(&in->clock, count);
  *came = count;
  return 0;
}

/* Take what has arrived, at least a byte. */
static int fill(struct input *in) {
  memmove(in->buffer, in->buffer + in->at, in->have -= in->at);
  in->at = 0;
  size_t count = 0;
  int error = receive(in, in->buffer + in->have, BUFFER_BYTES - in->have, 0, &count);
  in->have += count;
  return error;
}

/* A line without CRLF, which stays valid until the next fill. */
static int take_line(struct input *in, char **line, size_t *size) {
  for (;;) {
    char *end = memmem(in->buffer + in->at, in->have - in->at, "\r\n", 2);
    if (end != NULL) {
      *line = in->buffer + in->at;
      *size = end - *line;
      in->at += *size + 2;
      return 0;
    }
    if (in->have - in->at >= LINE_BYTES) return LONG_LINE;
    int error = fill(in);
    if (error) return error;
  }
}

/* `size` bytes to `place`, or nowhere when it is NULL; `hash` may be NULL. */
static int take(struct input *in, char *place, size_t size, XXH3_state_t *hash) {
  static __thread char waste[BLOCK_BYTES];
  while (size > 0) {
    size_t count = in->have - in->at < size ? in->have - in->at : size;
    char *to = place == NULL ? waste : place;
    if (count > 0) {
      if (place != NULL) memcpy(to, in->buffer + in->at, count);
      in->at += count;
    } else {
      int error = receive(in, to, size < BLOCK_BYTES ? size : BLOCK_BYTES, MSG_WAITALL, &count);
      if (error) return error;
    }
    if (hash != NULL) XXH3_64bits_update(hash, to, count);
    if (place != NULL) place += count;
    size -= count;
  }
  return 0;
}

static int send_parts(struct input *in, struct iovec *parts, size_t count) {
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
  while (message.msg_iovlen > 0) {
    int error = arm(in);
    if (error) return error;
    ssize_t sent = sendmsg(in->fd, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return failure(sent);
    moved(&in->clock, sent);
    while (message.msg_iovlen > 0 && (size_t)sent >= message.msg_iov->iov_len) {
      sent -= message.msg_iov->iov_len;
      message.msg_iov++;
      message.msg_iovlen--;
    }
    if (message.msg_iovlen > 0) {
      message.msg_iov->iov_base = (char *)message.msg_iov->iov_base + sent;
      message.msg_iov->iov_len -= sent;
    }
  }
  return 0;
}

static int send_requests(struct input *in, struct stripe *stripes, size_t count) {
  struct iovec parts[AT_ONCE];
  for (size_t i = 0; i < count; i++) {
    parts[i].iov_base = (void *)stripes[i].request;
    parts[i].iov_len = stripes[i].request_bytes;
  }
  return send_parts(in, parts, count);
}

/* The length of a bulk string; -1 for none, below that when the line is not of that kind. */
static int64_t bulk_length(const char *line, size_t size) {
  if (size == 3 && memcmp(line, "$-1", 3) == 0) return MISSING;
  if (size < 2 || size > 19 || line[0] != '$') return -2;
  int64_t length = 0;
  for (size_t i = 1; i < size; i++) {
    if (line[i] < '0' || line[i] > '9') return -2;
    length = 10 * length + (line[i] - '0');
  }
  return length;
}

static void quote(char *said, size_t room, const char *line, size_t size) {
  if (room == 0 || said[0] != '\0') return;
  if (size > room - 1) size = room - 1;
  memcpy(said, line, size);
  said[size] = '\0';
}

static int take_end(struct input *in) {
  char end[2];
  int error = take(in, end, 2, NULL);
  return error ? error : memcmp(end, "\r\n", 2) ? NOT_AS_LONG : 0;
}

static int take_value(struct input *in, const struct value *value, int64_t *length, uint64_t *checksum, char *said, size_t room) {
  char *line;
  size_t size;
  int error = take_line(in, &line, &size);
  if (error) return error;
  if (size > 0 && line[0] == '-') {
    quote(said, room, line + 1, size - 1);
    *length = REFUSED;
    return 0;
  }
  *length = bulk_length(line, size);
  if (*length == MISSING) return 0;
  if (*length < 0) {
    quote(said, room, line, size);
    return NOT_RESP;
  }
  if ((uint64_t)*length != value->head_bytes + value->room) {
    error = take(in, NULL, *length, NULL);
  } else {
    XXH3_state_t hash;
    XXH3_64bits_reset(&hash);
    error = take(in, value->head, value->head_bytes, NULL);
    if (!error) error = take(in, value->place, value->room, &hash);
    *checksum = XXH3_64bits_digest(&hash);
  }
  return error ? error : take_end(in);
}

/* Send all requests, at most `in_flight` of them unanswered, and take all replies, by the deadline. The socket blocks; its
 * time-outs are set. said: the first error that the server answered, or the line that is not RESP, zero-terminated. */
int striped_load(int fd, struct stripe *stripes, uint64_t count, uint64_t in_flight, uint64_t head_bytes,
                const struct deadline *time, char *said, uint64_t said_bytes) {
  struct input in = {.fd = fd, .clock = begun(time)};
  uint64_t sent = 0;
  if (said_bytes > 0) said[0] = '\0';
  if (head_bytes > HEAD_BYTES) return EINVAL;
  for (uint64_t number = 0; number < count; number++) {
    uint64_t end = count - number < in_flight ? count : number + in_flight;
    while (sent < end) {
      uint64_t some = end - sent < AT_ONCE ? end - sent : AT_ONCE;
      int error = send_requests(&in, stripes + sent, some);
      if (error) return error;
      sent += some;
    }
    struct stripe *stripe = stripes + number;
    struct value value = {stripe->head, head_bytes, stripe->place, stripe->room};
    int error = take_value(&in, &value, &stripe->length, &stripe->checksum, said, said_bytes);
    if (error) return error;
    moved(&in.clock, in.clock.time.command_bytes);
  }
  return in.have > in.at ? TOO_MUCH : 0;
}

#include "files.c"
#include "uring.c"

#include "reader.c"
#include "locate.c"
#include "lookup.c"
