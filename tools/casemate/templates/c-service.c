/*
 * @NAME@: a service in a domain of its own. It answers each message in capitals.
 *
 * `casemate run .` boots it as a domain. `make linux && IDC_HOSTED=7 ./@NAME@-linux` runs the same service as a Linux
 * process that plays domain 7, for debugging.
 */
#include <ctype.h>
#include <idc.h>
#include <stdio.h>

/* Name under which other domains find it. */
#define NAME "@NAME@"

/* Longest message that it takes. */
#define LONGEST 65536

static unsigned char buffer[LONGEST];

/* Why a call failed, in a sentence. */
static const char *reason(int status)
{
	static struct idc_error error;
	return idc_last_error(&error) == IDC_OK && error.status == status ? error.message : idc_strerror(status);
}

/* Serves one client until it ends the channel. */
static int serve(idc_channel *client)
{
	int64_t length;
	while ((length = idc_read(client, buffer, sizeof buffer)) >= 0) {
		for (int64_t i = 0; i < length; i++)
			buffer[i] = (unsigned char)toupper(buffer[i]);
		int status = idc_write(client, buffer, (size_t)length);
		if (status != IDC_OK)
			return status;
	}
	return length == IDC_END ? idc_finish(client) : (int)length;
}

int main(void)
{
	struct idc_listen_config config = {.channel = {.max_message = LONGEST}};
	idc_context *idc;
	idc_listener *listener;
	idc_channel *client;
	int status = idc_open(&idc);
	if (status == IDC_OK)
		status = idc_listen(idc, NAME, &config, &listener);
	if (status == IDC_OK) {
		printf("%s: ready\n", NAME);
		fflush(stdout);
	}
	/* One client after the other. One that breaks the protocol loses its channel; the service goes on. */
	while (status == IDC_OK && (status = idc_accept(listener, -1, &client)) == IDC_OK) {
		int end = serve(client);
		if (end != IDC_OK) {
			printf("%s: domain %d: %s\n", NAME, idc_peer(client), reason(end));
			fflush(stdout);
		}
		idc_channel_close(client);
	}
	fprintf(stderr, "%s: %s\n", NAME, reason(status));
	return 1;
}
