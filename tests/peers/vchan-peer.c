/*
 * A program that knows nothing of Casemate: it uses libxenvchan of Xen as that is. The test command builds it and
 * has it talk with our side of the protocol.
 *
 *   vchan-peer ROLE TASK DOMID PATH SIZE [BYTES]
 *     ROLE  server | client   (SIZE: least size of a server's rings)
 *     TASK  echo              sends back what comes, until the peer closes
 *           check             sends BYTES bytes in pieces of all lengths and checks that they come back
 *           hold              connects, says so, and waits for the peer's end
 */
#include <errno.h>
#include <libxenvchan.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned char pattern(uint64_t at)
{
    return (unsigned char)((at * 2654435761u) >> 13);
}

static int fail(const char *what)
{
    fprintf(stderr, "vchan-peer: %s failed (errno %d)\n", what, errno);
    return 1;
}

static int echo(struct libxenvchan *chan)
{
    unsigned char buf[4096];
    unsigned long long bytes = 0;
    for (;;) {
        int got = libxenvchan_read(chan, buf, sizeof buf), sent = 0;
        if (got <= 0)
            break;
        while (sent < got) {
            int now = libxenvchan_write(chan, buf + sent, got - sent);
            if (now <= 0)
                return fail("write");
            sent += now;
        }
        bytes += got;
    }
    printf("echoed %llu\n", bytes);
    return 0;
}

static int check(struct libxenvchan *chan, uint64_t total)
{
    static unsigned char buf[8192];
    uint64_t at = 0;
    size_t len = 1;
    while (at < total) {
        /* No more than the smallest pair of rings holds, as nothing is read meanwhile. */
        size_t piece = len % 1021 + 1, got = 0;
        len = len * 7 + 3;
        for (size_t i = 0; i < piece; i++)
            buf[i] = pattern(at + i);
        if (libxenvchan_send(chan, buf, piece) != (int)piece)
            return fail("send");
        memset(buf, 0, sizeof buf);
        while (got < piece) {
            int now = libxenvchan_read(chan, buf + got, piece - got);
            if (now <= 0)
                return fail("read");
            got += now;
        }
        for (size_t i = 0; i < piece; i++)
            if (buf[i] != pattern(at + i)) {
                fprintf(stderr, "vchan-peer: byte %llu came back changed\n", (unsigned long long)(at + i));
                return 1;
            }
        at += piece;
    }
    printf("checked %llu\n", (unsigned long long)at);
    return 0;
}

static int hold(struct libxenvchan *chan)
{
    unsigned char byte;
    int got;
    printf("connected\n");
    fflush(stdout);
    got = libxenvchan_read(chan, &byte, 1);
    printf("read gives %d\n", got);
    return 0;
}

int main(int argc, char **argv)
{
    struct libxenvchan *chan = NULL;
    int domid, status;
    size_t size;
    if (argc < 6)
        return fail("reading the arguments");
    domid = atoi(argv[3]);
    size = strtoul(argv[5], NULL, 10);
    if (!strcmp(argv[1], "server")) {
        chan = libxenvchan_server_init(NULL, domid, argv[4], size, size);
    } else {
        /* libxenvchan does not wait for a server. */
        for (int tries = 0; !chan && tries < 6000; tries++) {
            chan = libxenvchan_client_init(NULL, domid, argv[4]);
            if (!chan)
                usleep(20000);
        }
    }
    if (!chan)
        return fail("init");
    chan->blocking = 1;
    printf("open\n");
    fflush(stdout);
    if (!strcmp(argv[2], "echo"))
        status = echo(chan);
    else if (!strcmp(argv[2], "check"))
        status = check(chan, argc > 6 ? strtoull(argv[6], NULL, 10) : 0);
    else
        status = hold(chan);
    libxenvchan_close(chan);
    return status;
}
