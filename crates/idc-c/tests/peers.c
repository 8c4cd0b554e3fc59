/* Two processes over the hosted platform: `peers serve DIR` and `peers client DIR`, and `peers arguments DIR` alone. */
#include <idc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERVICE 5
#define MAX (1 << 20)

static int line;

#define CHECK(condition)                                                                                     \
	do {                                                                                                 \
		if (!(condition)) {                                                                          \
			struct idc_error error = {0};                                                        \
			idc_last_error(&error);                                                              \
			fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #condition, error.message); \
			exit(1);                                                                             \
		}                                                                                            \
	} while (0)

static unsigned char data[MAX + 1], back[MAX + 1];

static void fill(unsigned seed, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		data[i] = (unsigned char)(seed >> 24);
	}
}

/* Echoes; a message "die" makes it die, "deaf" makes it stop without an end mark. */
static int serve(const char *dir)
{
	idc_context *idc;
	idc_listener *listener;
	struct idc_listen_config config = {.channel = {.max_message = MAX}, .max_clients = 2};
	CHECK(idc_open_hosted(SERVICE, dir, &idc) == IDC_OK);
	CHECK(idc_domid(idc) == SERVICE);
	CHECK(idc_listen(idc, "c-test", &config, &listener) == IDC_OK);
	CHECK(idc_listen(idc, "c-test", NULL, &listener) == IDC_E_NAME_TAKEN);
	for (;;) {
		idc_channel *client;
		int64_t len;
		CHECK(idc_accept(listener, -1, &client) == IDC_OK);
		while ((len = idc_read(client, data, sizeof data)) >= 0) {
			if (len == 3 && memcmp(data, "die", 3) == 0)
				raise(SIGKILL);
			if (len == 4 && memcmp(data, "deaf", 4) == 0)
				break;
			CHECK(idc_write(client, data, (size_t)len) == IDC_OK);
		}
		if (len == IDC_END)
			CHECK(idc_finish(client) == IDC_OK);
		CHECK(idc_channel_close(client) == IDC_OK);
	}
}

static idc_channel *dial(idc_context *idc)
{
	idc_channel *channel;
	CHECK(idc_dial(idc, SERVICE, "c-test", NULL, 60000, &channel) == IDC_OK);
	CHECK(idc_peer(channel) == SERVICE);
	return channel;
}

static int64_t read_polled(idc_channel *channel)
{
	for (;;) {
		int64_t len;
		int armed;
		while ((armed = idc_arm_read(channel)) == 0) {
			struct pollfd fd = {.fd = idc_fd(channel), .events = POLLIN};
			CHECK(fd.fd >= 0);
			if (poll(&fd, 1, 50) > 0)
				CHECK(idc_take_event(channel) >= 0);
			else
				CHECK(idc_check_peer(channel) == IDC_OK);
		}
		CHECK(armed == 1);
		len = idc_try_read(channel, back, sizeof back);
		if (len != IDC_E_WOULD_BLOCK)
			return len;
	}
}

static void *write_all(void *writer)
{
	for (uint32_t i = 0; i < 20000; i++)
		CHECK(idc_write(writer, &i, sizeof i) == IDC_OK);
	CHECK(idc_finish(writer) == IDC_OK);
	return NULL;
}

static int client(const char *dir)
{
	static const size_t lens[] = {0, 1, 7, 8, 9, 1000, 4095, 4096, 16375, 16376, 16377, 65536, 262144, MAX};
	static const idc_buffer batch[] = {{"one", 3}, {NULL, 0}, {"three", 5}};
	idc_context *idc;
	struct idc_error error;
	char json[4096];
	CHECK(idc_open_hosted(-1, dir, &idc) == IDC_OK);
	idc_channel *channel = dial(idc);

	for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
		fill((unsigned)i, lens[i]);
		CHECK(idc_write(channel, data, lens[i]) == IDC_OK);
		if (lens[i] > 0) {
			CHECK(idc_read(channel, back, lens[i] - 1) == IDC_E_BUFFER_TOO_SMALL);
			CHECK(idc_last_error(&error) == IDC_OK && error.needed == lens[i]);
		}
		unsigned char first[4] = {0};
		CHECK(idc_peek(channel, first, sizeof first, -1) == (int64_t)lens[i]);
		CHECK(memcmp(first, data, lens[i] < 4 ? lens[i] : 4) == 0);
		CHECK(idc_timed_read(channel, back, sizeof back, 60000) == (int64_t)lens[i]);
		CHECK(memcmp(data, back, lens[i]) == 0);
	}
	CHECK(idc_write(channel, data, MAX + 1) == IDC_E_MESSAGE_TOO_LARGE);
	CHECK(idc_last_error(&error) == IDC_OK && error.limit == MAX && error.needed == MAX + 1);
	CHECK(error.status == IDC_E_MESSAGE_TOO_LARGE && strstr(error.message, "longer"));

	CHECK(idc_timed_read(channel, back, sizeof back, 20) == IDC_E_TIMED_OUT);
	CHECK(idc_try_read(channel, back, sizeof back) == IDC_E_WOULD_BLOCK);

	CHECK(idc_cork(channel) == IDC_OK);
	CHECK(idc_write_batch(channel, batch, 3) == IDC_OK);
	CHECK(idc_uncork(channel) == IDC_OK);
	CHECK(idc_drain(channel, 60000) == IDC_OK);
	CHECK(read_polled(channel) == 3 && memcmp(back, "one", 3) == 0);
	CHECK(read_polled(channel) == 0);
	CHECK(read_polled(channel) == 5 && memcmp(back, "three", 5) == 0);
	CHECK(idc_try_write_batch(channel, batch, 1) == 1);
	CHECK(read_polled(channel) == 3);

	/* Several at once. */
	size_t sizes[4] = {0}, left = 3;
	CHECK(idc_read_batch(channel, back, sizeof back, sizes, 4, 20) == IDC_E_TIMED_OUT);
	CHECK(idc_write_batch(channel, batch, 3) == IDC_OK);
	for (const char *expected = "onethree"; left > 0;) {
		/* The last one does not fit together with the first. */
		int64_t count = idc_read_batch(channel, back, 5, sizes, 4, 60000);
		CHECK(count > 0 && (size_t)count <= left);
		left -= (size_t)count;
		size_t all = sizes[0] + (count > 1 ? sizes[1] : 0) + (count > 2 ? sizes[2] : 0);
		CHECK(memcmp(back, expected, all) == 0);
		expected += all;
	}
	CHECK(idc_write(channel, "long", 4) == IDC_OK);
	CHECK(idc_read_batch(channel, back, 3, sizes, 4, 60000) == IDC_E_BUFFER_TOO_SMALL);
	CHECK(idc_read_batch(channel, back, 4, sizes, 4, 60000) == 1 && sizes[0] == 4);
	CHECK(idc_read_batch(channel, back, 4, sizes, 0, 60000) == 0);
	CHECK(idc_read_batch(channel, back, 4, NULL, 1, 60000) == IDC_E_INVALID);

	/* A message that is written where the reader finds it. */
	CHECK(idc_append(channel, "x", 1) == IDC_E_INVALID && idc_commit(channel) == IDC_E_INVALID);
	CHECK(idc_reserve(channel, 1 << 20, -1) == IDC_E_MESSAGE_TOO_LARGE);
	CHECK(idc_reserve(channel, 20, -1) == IDC_OK);
	CHECK(idc_append(channel, "in th", 5) == IDC_OK && idc_append(channel, "ree pieces", 10) == IDC_OK);
	CHECK(idc_append(channel, "too long", 8) == IDC_E_MESSAGE_TOO_LARGE && idc_append(channel, "!", 1) == IDC_OK);
	CHECK(idc_commit(channel) == IDC_OK && idc_commit(channel) == IDC_E_INVALID);
	CHECK(idc_read(channel, back, sizeof back) == 16 && memcmp(back, "in three pieces!", 16) == 0);
	CHECK(idc_reserve(channel, 20, -1) == IDC_OK && idc_append(channel, "lost", 4) == IDC_OK);
	CHECK(idc_write(channel, "other", 5) == IDC_OK && idc_append(channel, "x", 1) == IDC_E_INVALID);
	CHECK(idc_read(channel, back, sizeof back) == 5 && memcmp(back, "other", 5) == 0);
	CHECK(idc_arm_write(channel, 100) == 1);
	CHECK(idc_max_inline(channel) > 0);

	int64_t whole = idc_stats_json(channel, json, sizeof json);
	CHECK(whole > 0 && (size_t)whole == strlen(json) && strstr(json, "\"sent\":{") && strstr(json, "\"received\":{"));
	CHECK(idc_stats_json(channel, json, 8) == whole && strlen(json) == 7);
	CHECK(idc_stats_json(channel, NULL, 0) == whole);

	/* Two threads. */
	idc_channel *writer;
	pthread_t thread;
	CHECK(idc_split(channel, &writer) == IDC_OK);
	CHECK(idc_split(channel, &writer) == IDC_E_DIRECTION);
	CHECK(idc_write(channel, "x", 1) == IDC_E_DIRECTION);
	CHECK(idc_read(writer, back, 1) == IDC_E_DIRECTION);
	CHECK(pthread_create(&thread, NULL, write_all, writer) == 0);
	for (uint32_t i = 0, got; i < 20000; i++)
		CHECK(idc_read(channel, &got, sizeof got) == sizeof got && got == i);
	CHECK(idc_read(channel, back, sizeof back) == IDC_END);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(idc_write(writer, "x", 1) == IDC_E_FINISHED);
	CHECK(idc_channel_close(channel) == IDC_OK && idc_channel_close(writer) == IDC_OK);
	CHECK(idc_channel_close(channel) == IDC_E_CLOSED && idc_read(channel, back, 1) == IDC_E_CLOSED);

	/* A peer that closes without an end mark, and one that dies. */
	channel = dial(idc);
	CHECK(idc_write(channel, "deaf", 4) == IDC_OK);
	CHECK(idc_read(channel, back, sizeof back) == IDC_E_PEER_CLOSED);
	CHECK(idc_last_error(&error) == IDC_OK && error.peer == SERVICE);
	/* Again, with the same pages. */
	CHECK(idc_redial(idc, channel, "c-test", NULL, 60000) == IDC_OK);
	CHECK(idc_write(channel, "again", 5) == IDC_OK);
	CHECK(idc_read(channel, back, sizeof back) == 5 && memcmp(back, "again", 5) == 0);
	CHECK(idc_redial(idc, writer, "c-test", NULL, 60000) == IDC_E_CLOSED);
	CHECK(idc_channel_close(channel) == IDC_OK);
	CHECK(idc_dial(idc, SERVICE, "nobody", NULL, 50, &channel) == IDC_E_NO_SUCH_SERVICE);
	CHECK(idc_dial(idc, SERVICE, "No Name", NULL, 50, &channel) == IDC_E_BAD_NAME);
	channel = dial(idc);
	CHECK(idc_write(channel, "die", 3) == IDC_OK);
	CHECK(idc_read(channel, back, sizeof back) == IDC_E_PEER_DIED);
	CHECK(idc_last_error(&error) == IDC_OK && error.peer == SERVICE && strstr(error.message, "died"));
	/* There is room, so writing does not notice; waiting does. */
	CHECK(idc_write(channel, "x", 1) == IDC_OK && idc_drain(channel, 60000) == IDC_E_PEER_DIED);
	CHECK(idc_write(channel, "x", 1) == IDC_E_PEER_DIED);
	CHECK(idc_counters_json(idc, json, sizeof json) > 0 && strstr(json, "\"peers_died\":"));
	CHECK(idc_quarantined(idc, -1) == 0 && idc_quarantined(idc, 70000) == IDC_E_INVALID);
	CHECK(idc_channel_close(channel) == IDC_OK && idc_close(idc) == IDC_OK);
	puts("client: all is well");
	return 0;
}

/* What a program can do wrong, and channels without a name, in one process. */
static int arguments(const char *dir)
{
	idc_context *a, *b;
	idc_channel *writer, *reader, *more[200];
	idc_listener *listener;
	uint32_t gref;
	char byte;
	struct idc_config odd = {.pages = 257}, reserved = {.reserved = 1}, small = {.pages = 1};
	CHECK(idc_open_hosted(1, dir, NULL) == IDC_E_INVALID);
	CHECK(idc_open_hosted(-2, dir, &a) == IDC_E_INVALID && idc_open_hosted(65536, dir, &a) == IDC_E_INVALID);
	CHECK(idc_open_hosted(1, "\xff", &a) == IDC_E_INVALID);
	CHECK(idc_open_hosted(1, dir, &a) == IDC_OK && idc_open_hosted(2, dir, &b) == IDC_OK);
	CHECK(idc_open_hosted(1, dir, &b) < 0);
	CHECK(idc_domid(NULL) == IDC_E_INVALID && idc_domid((idc_context *)1) == IDC_E_INVALID);
	CHECK(idc_create(a, 2, &odd, &writer, &gref) == IDC_E_BAD_CONFIG);
	CHECK(idc_create(a, 2, &reserved, &writer, &gref) == IDC_E_BAD_CONFIG);
	CHECK(idc_create(a, -1, NULL, &writer, &gref) == IDC_E_INVALID);
	CHECK(idc_create(a, 2, NULL, NULL, &gref) == IDC_E_INVALID);
	CHECK(idc_create(a, 2, NULL, &writer, NULL) == IDC_E_INVALID);
	CHECK(idc_connect(b, 1, 12345, NULL, &reader) == IDC_E_BAD_GRANT);
	CHECK(idc_dial(a, 2, NULL, NULL, 0, &reader) == IDC_E_INVALID);
	CHECK(idc_listen(a, "BAD", NULL, &listener) == IDC_E_BAD_NAME);
	CHECK(idc_listen(a, "named", NULL, &listener) == IDC_OK);
	CHECK(idc_accept(listener, 1, &reader) == IDC_E_TIMED_OUT);
	CHECK(idc_listener_close(listener) == IDC_OK && idc_listener_close(listener) == IDC_E_CLOSED);

	/* One way, and one reader after the other. */
	CHECK(idc_create(a, 2, &small, &writer, &gref) == IDC_OK);
	for (int round = 0; round < 3; round++) {
		CHECK(idc_connect(b, 1, gref, NULL, &reader) == IDC_OK);
		CHECK(idc_write(writer, &round, sizeof round) == IDC_OK);
		int got;
		CHECK(idc_read(reader, &got, sizeof got) == sizeof got && got == round);
		CHECK(idc_read(reader, NULL, 1) == IDC_E_INVALID && idc_write(writer, NULL, 1) == IDC_E_INVALID);
		CHECK(idc_write(writer, &byte, SIZE_MAX) == IDC_E_INVALID);
		CHECK(idc_write_batch(writer, NULL, 1) == IDC_E_INVALID);
		CHECK(idc_write_batch(writer, (idc_buffer *)&byte, SIZE_MAX) == IDC_E_INVALID);
		while ((line = idc_try_write(writer, data, 1000)) == IDC_OK)
			;
		CHECK(line == IDC_E_WOULD_BLOCK && idc_timed_write(writer, data, 1000, 10) == IDC_E_TIMED_OUT);
		CHECK(idc_write(reader, "x", 1) == IDC_E_DIRECTION && idc_complete(writer, 0) == IDC_E_DIRECTION);
		CHECK(idc_channel_close(reader) == IDC_OK);
		CHECK(idc_renew(writer, 60000) == IDC_OK);
	}
	CHECK(idc_channel_close(writer) == IDC_OK && idc_write(writer, "x", 1) == IDC_E_CLOSED);

	/* Both ways without a name. */
	CHECK(idc_offer(a, 2, NULL, &writer, &gref) == IDC_OK && idc_peer(writer) == 2);
	CHECK(idc_write(writer, "x", 1) == IDC_E_DIRECTION);
	CHECK(idc_complete(writer, 10) == IDC_E_PEER_NOT_CONNECTED);
	CHECK(idc_answer(b, 1, gref, NULL, &reader) == IDC_OK);
	CHECK(idc_complete(writer, 60000) == IDC_OK && idc_complete(writer, 60000) == IDC_E_DIRECTION);
	CHECK(idc_write(writer, "ping", 4) == IDC_OK && idc_read(reader, data, 4) == 4);
	CHECK(idc_write(reader, "pong", 4) == IDC_OK && idc_read(writer, data, 4) == 4 && memcmp(data, "pong", 4) == 0);
	CHECK(idc_channel_close(writer) == IDC_OK && idc_channel_close(reader) == IDC_OK);

	/* Handles come back, but not at once. */
	for (int i = 0; i < 200; i++) {
		CHECK(idc_create(a, 2, &small, &more[i], &gref) == IDC_OK && idc_channel_close(more[i]) == IDC_OK);
		for (int j = 0; j < 64 && j <= i; j++)
			CHECK(idc_channel_close(more[i - j]) == IDC_E_CLOSED);
	}
	CHECK(idc_close(a) == IDC_OK && idc_close(a) == IDC_E_CLOSED && idc_close(NULL) == IDC_E_INVALID);
	CHECK(strcmp(idc_strerror(IDC_E_CLOSED), idc_strerror(IDC_OK)) != 0 && idc_strerror(12345) != NULL);
	CHECK(idc_last_error(NULL) == IDC_E_INVALID && idc_version() >= 0x100);
	puts("arguments: all is well");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	if (strcmp(argv[1], "serve") == 0)
		return serve(argv[2]);
	if (strcmp(argv[1], "client") == 0)
		return client(argv[2]);
	return arguments(argv[2]);
}
