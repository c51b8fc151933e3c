/* EXISTS over several connections in one call: whoever waits for a reply gives up Python's lock, and where other threads compute
 * it takes up to 5 ms to come back, so that a lookup that asks and takes replies in Python pays that several times. */

#include <poll.h>

enum { GONE = -6 }; /* a status beside those of striped_load: the server had closed the connection, and nothing was asked */

/* One connection and its questions, `count` whole commands in `request`. Of each reply in `found`: 1, 0, or 2 where the server refused
 * it, the first time with the words in `said`. status: why the connection cannot be used any more. after_s: until its last reply. */
struct question {
  int32_t fd, status;
  const char *request;
  uint64_t request_bytes, count;
  char *found;
  double after_s;
  char said[SAID_BYTES];
};

static int ask(struct input *in, const struct question *question) {
  char byte;
  ssize_t count = recv(in->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (count >= 0 || errno != EWOULDBLOCK) return GONE;
  struct iovec part = {(void *)question->request, question->request_bytes};
  return send_parts(in, &part, 1);
}

static int take_answers(struct input *in, struct question *question) {
  for (uint64_t at = 0; at < question->count; at++) {
    char *line;
    size_t size;
    int error = take_line(in, &line, &size);
    if (error) return error;
    if (size == 2 && line[0] == ':' && (line[1] == '0' || line[1] == '1')) {
      question->found[at] = line[1] - '0';
    } else if (size > 0 && line[0] == '-') {
      question->found[at] = 2;
      quote(question->said, SAID_BYTES, line + 1, size - 1);
    } else {
      question->said[0] = '\0';
      quote(question->said, SAID_BYTES, line, size);
      return NOT_RESP;
    }
    moved(&in->clock, in->clock.time.command_bytes);
  }
  return in->have > in->at ? TOO_MUCH : 0;
}

/* Milliseconds until the last of those that are waited for has no time left. */
static int left_ms(const struct input *inputs, const struct pollfd *waited, uint64_t count) {
  double end_s = 0;
  for (uint64_t i = 0; i < count; i++)
    if (waited[i].fd >= 0 && inputs[i].clock.end_s > end_s) end_s = inputs[i].clock.end_s;
  double left_s = end_s - now_s();
  return left_s > 0 ? (int)(left_s * 1e3) + 1 : 0;
}

/* Ask all, and take the replies of whichever connection has some. 0, or ENOMEM. */
int striped_exists(struct question *questions, uint64_t count, const struct deadline *time) {
  struct input *inputs = calloc(count, sizeof *inputs);
  struct pollfd *waited = calloc(count, sizeof *waited);
  uint64_t left = 0;
  double begun_s = now_s();
  for (uint64_t i = 0; i < count && inputs && waited; i++) {
    inputs[i].fd = questions[i].fd;
    inputs[i].clock = begun(time);
    questions[i].status = ask(inputs + i, questions + i);
    waited[i] = (struct pollfd){.fd = questions[i].status ? -1 : questions[i].fd, .events = POLLIN};
    left += !questions[i].status;
  }
  while (left > 0) {
    int ready = poll(waited, count, left_ms(inputs, waited, count));
    if (ready < 0 && errno == EINTR) continue;
    for (uint64_t i = 0; i < count; i++) {
      if (waited[i].fd < 0 || (ready > 0 && !waited[i].revents)) continue;
      questions[i].status = ready > 0 ? take_answers(inputs + i, questions + i) : ready == 0 ? ETIMEDOUT : errno;
      questions[i].after_s = now_s() - begun_s;
      waited[i].fd = -1;
      left--;
    }
  }
  int error = inputs && waited ? 0 : ENOMEM;
  free(inputs);
  free(waited);
  return error;
}
