/* Stripes that lie in files of a server's folder: LOCATE over RESP says where, reader.c reads them meanwhile. What the server has
 * in memory comes by GET beside, where that is little; the rest is left to GET. Stripe 0 is as short as its head and comes by GET. */

#include <stdio.h>

enum { KEYS = 128, ROUND = 1024, SAID_BYTES = 256, ANSWER_BYTES = MOST_PATH + 64 };
enum { IN_MEMORY = -2, GETS = 16, BESIDE = 8 }; /* a piece's file; GETs at once; stripes of files for each that comes beside them */

/* One connection and its share of the pieces, from `first` on. status: why it cannot be used any more, as in native.h; REFUSED when the
 * server refused LOCATE, with its words in `said`. file_error: of the first file that could not be opened, with its path.
 * waited_s: for the reply that took longest, 0 at first. */
struct channel {
  int32_t fd, folder;
  uint64_t first, count;
  int32_t status, file_error;
  char said[SAID_BYTES];
  double waited_s;
};

struct conversation {
  struct channel *channel;
  struct input in;
  uint64_t asked, taken; /* pieces by get_beside */
};

/* How many pieces the next command asks for: one stripe 0 by GET, or others by LOCATE. */
static uint64_t together(const struct piece *pieces, uint64_t count) {
  uint64_t some = 1;
  while (pieces[0].index != 0 && some < count && some < KEYS && pieces[some].index != 0) some++;
  return some;
}

static void write_key(FILE *out, const struct piece *piece) {
  int digits = snprintf(NULL, 0, "#%u", piece->index);
  fprintf(out, "$%zu\r\n", (size_t)piece->key_bytes + digits);
  fwrite(piece->key, 1, piece->key_bytes, out);
  fprintf(out, "#%u\r\n", piece->index);
}

/* Ask for stripe 0 by GET and for others by LOCATE; in_memory: by GET for those that the server has there, and for no others. */
static int send_commands(struct conversation *with, const struct piece *pieces, uint64_t count, int in_memory) {
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL) return ENOMEM;
  for (uint64_t at = 0, some; at < count; at += some) {
    some = in_memory ? 1 : together(pieces + at, count - at);
    if (in_memory && pieces[at].file != IN_MEMORY) continue;
    int locates = pieces[at].index && !in_memory;
    fprintf(out, "*%zu\r\n%s\r\n", (size_t)some + 1, locates ? "$6\r\nLOCATE" : "$3\r\nGET");
    for (uint64_t i = at; i < at + some; i++) write_key(out, pieces + i);
  }
  int error = fclose(out) ? ENOMEM : 0;
  struct iovec part = {text, size};
  if (!error) error = send_parts(&with->in, &part, 1);
  free(text);
  return error;
}

static const char *number(const char *text, const char *end, int64_t *value) {
  const char *at = text;
  for (*value = 0; at < end && *at >= '0' && *at <= '9' && at - text < 18; at++) *value = 10 * *value + (*at - '0');
  return at > text && at < end && *at == ' ' ? at + 1 : NULL;
}

/* `OFFSET LENGTH PATH`: have it read; anything else stays for GET. */
static void give(struct job *job, struct files *files, struct channel *channel, struct piece *pieces, uint64_t at,
                 uint64_t head_bytes, const char *answer, size_t size) {
  const char *end = answer + size;
  int64_t length;
  struct piece *piece = pieces + at;
  const char *rest = number(answer, end, &piece->offset);
  if (rest != NULL) rest = number(rest, end, &length);
  if (rest == NULL || (uint64_t)length != head_bytes + piece->room) return;
  piece->file = file_of(files, channel->folder, rest, end - rest);
  if (piece->file < 0) return;
  const struct file *file = files->all[piece->file];
  if (file->error == 0) {
    job_give(job, at);
    return;
  }
  piece->length = UNREAD;
  if (channel->file_error == 0) {
    channel->file_error = file->error;
    quote(channel->said, SAID_BYTES, file->path, strlen(file->path));
  }
}

static int take_places(struct conversation *with, struct job *job, struct files *files, struct piece *pieces, uint64_t first,
                       uint64_t count, uint64_t head_bytes) {
  struct channel *channel = with->channel;
  char *line, answer[ANSWER_BYTES], words[32];
  size_t size;
  int error = take_line(&with->in, &line, &size);
  if (error) return error;
  if (size > 0 && line[0] == '-') {
    channel->status = REFUSED;
    channel->said[0] = '\0';
    quote(channel->said, SAID_BYTES, line + 1, size - 1);
    return 0;
  }
  int wanted = snprintf(words, sizeof words, "*%zu", (size_t)count);
  if (size != (size_t)wanted || memcmp(line, words, size)) return NOT_RESP;
  for (uint64_t at = first; at < first + count; at++) {
    error = take_line(&with->in, &line, &size);
    if (error) return error;
    int64_t length = bulk_length(line, size);
    if (length == MISSING) {
      pieces[at].length = MISSING;
      continue;
    }
    if (length < 0) return NOT_RESP;
    int fits = length <= ANSWER_BYTES;
    error = take(&with->in, fits ? answer : NULL, length, NULL);
    if (!error) error = take_end(&with->in);
    if (error) return error;
    if (length == 0) pieces[at].file = IN_MEMORY;
    else if (fits) give(job, files, channel, pieces, at, head_bytes, answer, length);
  }
  return 0;
}

/* The reply to a piece's GET. */
static int take_piece(struct conversation *with, struct piece *piece, uint64_t head_bytes) {
  struct value value = {piece->head, head_bytes, piece->place, piece->room};
  int error = take_value(&with->in, &value, &piece->length, &piece->checksum, NULL, 0);
  if (piece->length == REFUSED) piece->length = BY_GET; /* which tells what the server says */
  return error;
}

/* Get what servers have in memory, while others read files: of all channels some, so that no server waits for another. */
static void get_beside(struct conversation *all, uint64_t channel_count, struct piece *pieces, uint64_t head_bytes) {
  for (int left = 1; left;) {
    left = 0;
    for (uint64_t i = 0; i < channel_count; i++) {
      struct conversation *with = all + i;
      struct channel *channel = with->channel;
      uint64_t end = channel->first + channel->count;
      unsigned count = 0;
      with->taken = with->asked;
      if (channel->status) continue;
      for (; with->asked < end && count < GETS; with->asked++) count += pieces[with->asked].file == IN_MEMORY;
      left |= with->asked < end;
      if (count) channel->status = send_commands(with, pieces + with->taken, with->asked - with->taken, 1);
    }
    for (uint64_t i = 0; i < channel_count; i++) {
      struct conversation *with = all + i;
      for (; with->taken < with->asked && !with->channel->status; with->taken++) {
        if (pieces[with->taken].file != IN_MEMORY) continue;
        with->channel->status = take_piece(with, pieces + with->taken, head_bytes);
        moved(&with->in.clock, with->in.clock.time.command_bytes);
      }
    }
  }
}

static int take_replies(struct conversation *with, struct job *job, struct files *files, struct piece *pieces, uint64_t first,
                        uint64_t count, uint64_t head_bytes) {
  for (uint64_t at = first, some; at < first + count; at += some) {
    struct piece *piece = pieces + at;
    some = together(piece, first + count - at);
    double begun_s = now_s();
    int error;
    if (piece->index == 0) {
      error = take_piece(with, piece, head_bytes);
    } else {
      error = take_places(with, job, files, pieces, at, some, head_bytes);
    }
    if (error) return error;
    double waited_s = now_s() - begun_s;
    if (waited_s > with->channel->waited_s) with->channel->waited_s = waited_s;
    moved(&with->in.clock, some * with->in.clock.time.command_bytes);
  }
  return 0;
}

/* Ask every channel for its pieces, read those that lie in files, and say of each in `length` what has become of it. Pieces
 * lie in order of their channels. 0, or ENOMEM. */
int striped_direct(struct reader *reader, struct channel *channels, uint64_t channel_count, struct piece *pieces,
                   uint64_t count, uint64_t head_bytes, const struct deadline *time) {
  struct files files = {.mode = reader->mode};
  struct conversation *all = calloc(channel_count, sizeof *all);
  struct job *job = head_bytes > HEAD_BYTES ? NULL : job_begin(reader, pieces, count, &files, head_bytes, time);
  if (all == NULL || job == NULL) {
    if (job != NULL) job_end(job);
    free(all);
    return ENOMEM;
  }
  for (uint64_t at = 0; at < count; at++) {
    pieces[at].length = BY_GET;
    pieces[at].file = -1;
  }
  uint64_t most = 0;
  for (uint64_t i = 0; i < channel_count; i++) {
    all[i].channel = channels + i;
    all[i].asked = channels[i].first;
    all[i].in.fd = channels[i].fd;
    all[i].in.clock = begun(time);
    if (channels[i].count > most) most = channels[i].count;
  }
  for (uint64_t done = 0; done < most; done += ROUND) {
    for (int taking = 0; taking < 2; taking++) {
      for (uint64_t i = 0; i < channel_count; i++) {
        struct channel *channel = channels + i;
        if (channel->count <= done || channel->status) continue;
        uint64_t first = channel->first + done, left = channel->count - done, some = left < ROUND ? left : ROUND;
        int error = taking ? take_replies(all + i, job, &files, pieces, first, some, head_bytes)
                           : send_commands(all + i, pieces + first, some, 0);
        if (error) channel->status = error;
      }
    }
  }
  uint64_t in_memory = 0;
  for (uint64_t at = 0; at < count; at++) in_memory += pieces[at].file == IN_MEMORY;
  if (in_memory && in_memory * BESIDE <= job->given) get_beside(all, channel_count, pieces, head_bytes);
  for (uint64_t i = 0; i < channel_count; i++)
    if (!channels[i].status && all[i].in.have > all[i].in.at) channels[i].status = TOO_MUCH;
  job_end(job);
  close_files(&files);
  free(all);
  return 0;
}
