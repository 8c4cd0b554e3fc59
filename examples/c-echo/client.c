/*
 * Calls a service that answers each message with one of the same length: c-echo, or the template of `casemate new
 * --template service --language c`.
 *
 *     client DOMID SERVICE WORD...        sends words, prints the answers
 *     client DOMID SERVICE --sizes        sends messages of many lengths and checks the answers
 *     client DOMID SERVICE --wait         waits for the end of the service, prints how it ended
 */
#include <idc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Time limit of each step in milliseconds: a domain in an emulator is slow. */
#define LIMIT 600000
#define LONGEST 65536

static char sent[LONGEST + 1], answer[LONGEST + 1];

/* Says what failed, and ends. */
static void fail(const char *what, int64_t status)
{
	struct idc_error error;
	if (idc_last_error(&error) == IDC_OK && error.status == status)
		fprintf(stderr, "client: %s: %s\n", what, error.message);
	else
		fprintf(stderr, "client: %s: %s\n", what, idc_strerror((int)status));
	exit(1);
}

static int64_t call(idc_channel *channel, const char *message, size_t length)
{
	int status = idc_timed_write(channel, message, length, LIMIT);
	if (status != IDC_OK)
		fail("write", status);
	int64_t got = idc_timed_read(channel, answer, LONGEST, LIMIT);
	if (got < 0)
		fail("read", got);
	return got;
}

/* Capitals and digits come back as they are from either service. */
static void sizes(idc_channel *channel)
{
	static const size_t lengths[] = {0, 1, 8, 100, 4095, 4096, 16376, 16377, 40000, LONGEST};
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		for (size_t at = 0; at < lengths[i]; at++)
			sent[at] = (char)('A' + (at * 7 + at / 26 + i) % 26);
		int64_t got = call(channel, sent, lengths[i]);
		if (got != (int64_t)lengths[i] || memcmp(sent, answer, lengths[i]) != 0) {
			fprintf(stderr, "client: a message of %zu bytes came back changed\n", lengths[i]);
			exit(1);
		}
	}
	int status = idc_write(channel, sent, LONGEST + 1);
	if (status != IDC_E_MESSAGE_TOO_LARGE)
		fail("too long a message", status);
	puts("sizes: all came back");
}

int main(int argc, char **argv)
{
	idc_context *idc;
	idc_channel *channel;
	if (argc < 3) {
		fprintf(stderr, "usage: client DOMID SERVICE [WORD...|--sizes|--wait]\n");
		return 2;
	}
	int status = idc_open(&idc);
	if (status != IDC_OK)
		fail("open", status);
	status = idc_dial(idc, atoi(argv[1]), argv[2], NULL, LIMIT, &channel);
	if (status != IDC_OK)
		fail("dial", status);
	for (int i = 3; i < argc; i++) {
		if (strcmp(argv[i], "--sizes") == 0) {
			sizes(channel);
		} else if (strcmp(argv[i], "--wait") == 0) {
			puts("waiting");
			fflush(stdout);
			int64_t end = idc_read(channel, answer, LONGEST);
			if (end != IDC_END)
				fail("read", end);
		} else {
			int64_t got = call(channel, argv[i], strlen(argv[i]));
			printf("%.*s\n", (int)got, answer);
		}
	}
	/* Say that this was all, and wait for the service to say the same. */
	status = idc_finish(channel);
	if (status != IDC_OK)
		fail("finish", status);
	int64_t end = idc_timed_read(channel, answer, LONGEST, LIMIT);
	if (end != IDC_END)
		fail("the end", end);
	idc_channel_close(channel);
	idc_close(idc);
	return 0;
}
