/*
 * One half of a measurement over libxenvchan of Xen, as that is: a child of idcperf, which gives the orders.
 *
 *   vchan-perf ROLE DOMID PATH SIZE
 *     ROLE  server | client   (SIZE: least size of a server's rings)
 *
 * Orders on standard input, a line each: WHAT SIZE COUNT. The first half streams, takes back, or makes round trips
 * (stream, back, roundtrip, parked, latency); the second one is sink, source or echo. The answer is the number of
 * notifications that this half has sent, the nanoseconds, and for latency those of each round trip.
 *
 * Notifications are counted by the linker: --wrap=xenevtchn_notify.
 */
#include <errno.h>
#include <inttypes.h>
#include <libxenvchan.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 256 << 10, LONGEST = 16 << 20 };

static uint64_t notified;

int __real_xenevtchn_notify(xenevtchn_handle *handle, evtchn_port_t port);
int __wrap_xenevtchn_notify(xenevtchn_handle *handle, evtchn_port_t port);

int __wrap_xenevtchn_notify(xenevtchn_handle *handle, evtchn_port_t port)
{
    notified++;
    return __real_xenevtchn_notify(handle, port);
}

static void die(const char *what)
{
    fprintf(stderr, "vchan-perf: %s failed (errno %d)\n", what, errno);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * UINT64_C(1000000000) + time.tv_nsec;
}

static void put(struct libxenvchan *chan, const unsigned char *buf, size_t size)
{
    while (size) {
        int sent = libxenvchan_write(chan, buf, size);
        if (sent <= 0)
            die("write");
        buf += sent;
        size -= sent;
    }
}

static void get(struct libxenvchan *chan, unsigned char *buf, size_t size)
{
    while (size) {
        int got = libxenvchan_read(chan, buf, size);
        if (got <= 0)
            die("read");
        buf += got;
        size -= got;
    }
}

/* Of many messages as much as there is: the best that a stream can do. */
static void get_many(struct libxenvchan *chan, uint64_t bytes)
{
    static unsigned char chunk[CHUNK];
    while (bytes) {
        int got = libxenvchan_read(chan, chunk, bytes < CHUNK ? bytes : CHUNK);
        if (got <= 0)
            die("read");
        bytes -= got;
    }
}

static void put_many(struct libxenvchan *chan, const unsigned char *buf, size_t size, uint64_t count)
{
    while (count--)
        put(chan, buf, size);
}

int main(int argc, char **argv)
{
    static unsigned char buf[LONGEST];
    struct libxenvchan *chan = NULL;
    char line[200], what[20];
    if (argc != 5)
        die("reading the arguments");
    int domid = atoi(argv[2]);
    size_t ring = strtoul(argv[4], NULL, 10);
    if (!strcmp(argv[1], "server")) {
        chan = libxenvchan_server_init(NULL, domid, argv[3], ring, ring);
    } else {
        /* libxenvchan does not wait for a server. */
        for (int tries = 0; !chan && tries < 6000; tries++) {
            chan = libxenvchan_client_init(NULL, domid, argv[3]);
            if (!chan)
                usleep(20000);
        }
    }
    if (!chan)
        die("init");
    chan->blocking = 1;
    printf("open\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        size_t size;
        uint64_t count, *laps = NULL, time = 0, first = notified, start;
        if (sscanf(line, "%19s %zu %" SCNu64, what, &size, &count) != 3 || size > LONGEST)
            die("reading an order");
        start = now();
        if (!strcmp(what, "stream")) {
            put_many(chan, buf, size, count);
            get(chan, buf, 8);
        } else if (!strcmp(what, "sink")) {
            get_many(chan, size * count);
            put(chan, buf, 8);
        } else if (!strcmp(what, "back")) {
            put(chan, buf, 8);
            get_many(chan, size * count);
        } else if (!strcmp(what, "source")) {
            get(chan, buf, 8);
            put_many(chan, buf, size, count);
        } else if (!strcmp(what, "echo")) {
            for (uint64_t i = 0; i < count; i++) {
                get(chan, buf, size);
                put(chan, buf, size);
            }
        } else if (!strcmp(what, "roundtrip")) {
            for (uint64_t i = 0; i < count; i++) {
                put(chan, buf, size);
                get(chan, buf, size);
            }
        } else if (!strcmp(what, "parked") || !strcmp(what, "latency")) {
            int parked = !strcmp(what, "parked");
            laps = calloc(count ? count : 1, sizeof *laps);
            if (!laps)
                die("calloc");
            for (uint64_t i = 0; i < count; i++) {
                if (parked)
                    usleep(2000);
                laps[i] = now();
                put(chan, buf, size);
                get(chan, buf, size);
                laps[i] = now() - laps[i];
                time += laps[i];
            }
        } else {
            die("understanding an order");
        }
        if (!laps)
            time = now() - start;
        printf("%" PRIu64 " %" PRIu64, notified - first, time);
        for (uint64_t i = 0; laps && i < count; i++)
            printf(" %" PRIu64, laps[i]);
        printf("\n");
        fflush(stdout);
        free(laps);
    }
    libxenvchan_close(chan);
    return 0;
}
