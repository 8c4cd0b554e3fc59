/*
 * IDC: messages between Xen domains. Made by cbindgen from crates/idc-c; the guide is docs/guide/idc.md.
 *
 * Results: functions that return int or int64_t return a negative idc_status when they fail, and IDC_OK or a number
 * when not. idc_strerror() has a short text for each, idc_last_error() the details of this thread's last error.
 *
 * Ownership: a function that stores a handle gives it to the program, which closes it. Handles do not depend on each
 * other: closing a context or a listener leaves its channels open. Buffers and strings stay the program's, are used
 * during the call only, and must not be changed by another thread meanwhile.
 *
 * Threads: a context may be used by several threads at once. A channel or listener is for one at a time; a second one
 * gets IDC_E_BUSY. idc_split() makes a channel fit for two. Any thread may close what no other is using.
 *
 * Mistakes: null pointers, lengths out of range and handles that have been closed are errors (IDC_E_INVALID,
 * IDC_E_CLOSED). A closed handle is recognised until at least 64 others of its type have been closed after it. Not
 * checked: pointers that this library never gave out, and buffers that are shorter than their length.
 *
 * Time limits are in milliseconds; negative ones never pass.
 *
 * In a domain link with -lidc (pkg-config idc) and nothing else: fork, signals and descriptors there are none.
 */

#ifndef CASEMATE_IDC_H
#define CASEMATE_IDC_H

#include <stddef.h>
#include <stdint.h>

/**
 * What functions return when they do not return a number of their own. Errors are negative.
 */
typedef enum idc_status {
  /**
   * It worked.
   */
  IDC_OK = 0,
  /**
   * The peer has finished its stream; there are no more messages. Not an error.
   */
  IDC_END = -1,
  /**
   * A `try` function would have had to wait.
   */
  IDC_E_WOULD_BLOCK = -2,
  /**
   * The time limit passed.
   */
  IDC_E_TIMED_OUT = -3,
  /**
   * A null pointer, a length that no memory has, a time limit or number out of range, or text that is not UTF-8.
   */
  IDC_E_INVALID = -4,
  /**
   * This handle has been closed.
   */
  IDC_E_CLOSED = -5,
  /**
   * Another thread is in a call with this handle.
   */
  IDC_E_BUSY = -6,
  /**
   * This channel cannot do that: it only reads, or only writes, or is not complete yet.
   */
  IDC_E_DIRECTION = -7,
  /**
   * The peer broke the protocol; `idc_error.reason` says how. The channel is of no more use.
   */
  IDC_E_PEER_MISBEHAVED = -8,
  /**
   * The peer speaks another version.
   */
  IDC_E_INCOMPATIBLE = -9,
  /**
   * The peer closed the channel without finishing its stream, or refused it.
   */
  IDC_E_PEER_CLOSED = -10,
  /**
   * The peer's process or domain is gone.
   */
  IDC_E_PEER_DIED = -11,
  /**
   * There is no such domain.
   */
  IDC_E_PEER_ABSENT = -12,
  /**
   * The peer did not connect in time.
   */
  IDC_E_PEER_NOT_CONNECTED = -13,
  /**
   * The domain does not offer that service.
   */
  IDC_E_NO_SUCH_SERVICE = -14,
  /**
   * This side has finished its stream already.
   */
  IDC_E_FINISHED = -15,
  /**
   * The message is longer than the receiver takes; `idc_error.limit` is what it takes.
   */
  IDC_E_MESSAGE_TOO_LARGE = -16,
  /**
   * The next message, which stays, is longer than the buffer; `idc_error.needed` is its length.
   */
  IDC_E_BUFFER_TOO_SMALL = -17,
  /**
   * A configuration that there cannot be.
   */
  IDC_E_BAD_CONFIG = -18,
  /**
   * Not the name of a service.
   */
  IDC_E_BAD_NAME = -19,
  /**
   * This domain offers that service already.
   */
  IDC_E_NAME_TAKEN = -20,
  /**
   * This side has no more memory, grant entries or ports.
   */
  IDC_E_OUT_OF_MEMORY = -21,
  /**
   * gntalloc's limit is reached.
   */
  IDC_E_GRANT_LIMIT = -22,
  /**
   * The peer keeps pages of closed channels mapped and gets no new ones.
   */
  IDC_E_QUARANTINED = -23,
  /**
   * That grant cannot be mapped.
   */
  IDC_E_BAD_GRANT = -24,
  /**
   * Somebody is connected to that ring already.
   */
  IDC_E_ALREADY_CONNECTED = -25,
  /**
   * There is nothing here that channels could be made of.
   */
  IDC_E_NO_PLATFORM = -26,
  /**
   * The operating system refused; `idc_error.system` is its error number.
   */
  IDC_E_SYSTEM = -27,
  /**
   * An error that this version of the library has no number for.
   */
  IDC_E_OTHER = -28,
} idc_status;

/**
 * How a peer broke the protocol.
 */
typedef enum idc_reason {
  /**
   * It did not.
   */
  IDC_REASON_NONE = 0,
  /**
   * The setup page does not begin with the magic number.
   */
  IDC_REASON_SETUP_MAGIC = 1,
  /**
   * A number of pages or slots that there cannot be, or a field that must be zero is not.
   */
  IDC_REASON_SETUP_GEOMETRY = 2,
  /**
   * A grant reference in the setup page is one of Xen's reserved ones.
   */
  IDC_REASON_SETUP_GRANT = 3,
  /**
   * The event-channel port in the setup page is missing, or there is one where there must be none.
   */
  IDC_REASON_SETUP_PORT = 4,
  /**
   * Unknown type or reserved bits in a record header.
   */
  IDC_REASON_RECORD_HEADER = 5,
  /**
   * A record reaches beyond the end of the ring.
   */
  IDC_REASON_RECORD_LENGTH = 6,
  /**
   * A filler record that does not end where the ring ends, or starts where it starts.
   */
  IDC_REASON_RECORD_FILLER = 7,
  /**
   * A fragment out of order, empty, or more or fewer bytes than the message declared.
   */
  IDC_REASON_FRAGMENT = 8,
  /**
   * A message comes in more pieces than any geometry needs.
   */
  IDC_REASON_FRAGMENT_COUNT = 9,
  /**
   * A descriptor names pool pages that this side has not given back, or that there are not.
   */
  IDC_REASON_POOL_PAGE = 10,
  /**
   * The count of pool pages that were given back went back, or is more than were taken.
   */
  IDC_REASON_POOL_RETURN = 11,
  /**
   * A message longer than this side said it takes.
   */
  IDC_REASON_MESSAGE_TOO_LARGE = 12,
  /**
   * The index of consumed bytes went back.
   */
  IDC_REASON_CONSUMED_BACK = 13,
  /**
   * The index of consumed bytes passed what had been written, or is not a multiple of eight.
   */
  IDC_REASON_CONSUMED_AHEAD = 14,
  /**
   * An armed event index went back or is out of reach.
   */
  IDC_REASON_ARMED_INDEX = 15,
  /**
   * A state word that has no meaning.
   */
  IDC_REASON_STATE_UNKNOWN = 16,
  /**
   * A state that may not follow the one before.
   */
  IDC_REASON_STATE_BACK = 17,
  /**
   * The reader's page echoes another channel's number.
   */
  IDC_REASON_NONCE = 18,
  /**
   * The grant reference of the answering ring is impossible.
   */
  IDC_REASON_REPLY_GRANT = 19,
} idc_reason;

/**
 * One end of a channel, in one direction or in both. For one thread at a time; `idc_split` makes two of one.
 */
typedef struct idc_channel idc_channel;

/**
 * Access to inter-domain communication. May be used by several threads at once.
 */
typedef struct idc_context idc_context;

/**
 * A service under a name. For one thread at a time.
 */
typedef struct idc_listener idc_listener;

/**
 * One message of a batch.
 */
typedef struct idc_buffer {
  /**
   * Its bytes; may be null if there are none.
   */
  const void *data;
  /**
   * How many.
   */
  size_t len;
} idc_buffer;

/**
 * Details of an error.
 */
typedef struct idc_error {
  /**
   * An `idc_status`.
   */
  int status;
  /**
   * The domain that is to blame, or -1.
   */
  int peer;
  /**
   * An `idc_reason`.
   */
  int reason;
  /**
   * The operating system's error number, or 0.
   */
  int system;
  /**
   * Bytes that were needed, or 0.
   */
  uint64_t needed;
  /**
   * Bytes that were allowed, or 0.
   */
  uint64_t limit;
  /**
   * What happened and what to do about it: a sentence, cut to the room.
   */
  char message[256];
} idc_error;

/**
 * Properties of one end of a channel. All zeros is the default.
 */
typedef struct idc_config {
  /**
   * Data pages of the ring that this side writes, 1 to 256; 0: 64.
   */
  uint32_t pages;
  /**
   * Pool pages for messages that do not go into the ring in one piece, 0 to 256.
   */
  uint32_t pool;
  /**
   * Slots in the one data page: 8, 32 or 128; 0: a ring without slots, which is faster.
   */
  uint32_t slots;
  /**
   * Most data and pool pages of the peer's ring that this side maps; 0: 512.
   */
  uint32_t max_peer_pages;
  /**
   * Longest message that this side receives; 0: 16 MiB.
   */
  uint64_t max_message;
  /**
   * Not 0: sleep at once, do not spin before.
   */
  uint32_t never_spin;
  /**
   * Must be 0.
   */
  uint32_t reserved;
} idc_config;

/**
 * Properties of a service. All zeros is the default.
 */
typedef struct idc_listen_config {
  /**
   * This side's end of each channel.
   */
  struct idc_config channel;
  /**
   * Most channels that are open at once; 0: 64.
   */
  uint32_t max_clients;
  /**
   * Most channels that are open at once to one domain; 0: 16.
   */
  uint32_t max_clients_per_peer;
} idc_listen_config;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Waits until the peer has answered an `idc_offer`. After a failure other than `IDC_E_BUSY`, `IDC_E_DIRECTION` and
 * `IDC_E_PEER_NOT_CONNECTED` the channel is of no more use; close it.
 */
int idc_complete(struct idc_channel *channel,
                 int timeout_ms);

/**
 * The paper's *Write*: sends one message of `len` bytes (0 is a message, too); waits for room.
 */
int idc_write(struct idc_channel *channel, const void *data, size_t len);

/**
 * As `idc_write`, without waiting: `IDC_E_WOULD_BLOCK`, and then the same call again, with the same bytes.
 */
int idc_try_write(struct idc_channel *channel, const void *data, size_t len);

/**
 * As `idc_write`, waiting at most `timeout_ms` milliseconds (negative: for ever).
 */
int idc_timed_write(struct idc_channel *channel, const void *data, size_t len, int timeout_ms);

/**
 * Sends several messages, waking the reader at most once; waits for room. `IDC_OK`: all were sent.
 */
int idc_write_batch(struct idc_channel *channel, const struct idc_buffer *messages, size_t count);

/**
 * As `idc_write_batch`, without waiting; returns how many messages, of the first ones, were sent.
 */
int64_t idc_try_write_batch(struct idc_channel *channel, const struct idc_buffer *messages, size_t count);

/**
 * Finds room in the ring for a message of at most `len` bytes, which is not more than `idc_max_inline`; waits for it at
 * most `timeout_ms` milliseconds (negative: for ever). `idc_append` writes the message there, in as many pieces as you
 * like, and `idc_commit` sends it. Another write in between gives the room up, and so does another `idc_reserve`.
 */
int idc_reserve(struct idc_channel *channel,
                size_t len,
                int timeout_ms);

/**
 * Appends bytes to the message for which `idc_reserve` found room. `IDC_E_MESSAGE_TOO_LARGE`: there is not enough of it;
 * nothing was appended. `IDC_E_INVALID`: there is none.
 */
int idc_append(struct idc_channel *channel,
               const void *data,
               size_t len);

/**
 * Sends what was appended, which may be less than was reserved. `IDC_E_INVALID`: nothing is reserved.
 */
int idc_commit(struct idc_channel *channel);

/**
 * From now on writing does not wake a reader that sleeps, until `idc_flush`, `idc_uncork`, or a write that has to
 * wait.
 */
int idc_cork(struct idc_channel *channel);

/**
 * Ends `idc_cork` and wakes the reader if there is something new.
 */
int idc_uncork(struct idc_channel *channel);

/**
 * Wakes the reader if it sleeps and there is something new.
 */
int idc_flush(struct idc_channel *channel);

/**
 * Says that this side has written everything; the peer reads what is left and then gets `IDC_END`. Reading goes
 * on. A channel that is closed without this is an error on the other side.
 */
int idc_finish(struct idc_channel *channel);

/**
 * Waits until the peer has read everything, at most `timeout_ms` milliseconds (negative: for ever).
 */
int idc_drain(struct idc_channel *channel, int timeout_ms);

/**
 * After the reader has gone: makes a channel of `idc_create` ready for another one in the same domain, which connects
 * with the same number.
 */
int idc_renew(struct idc_channel *channel,
              int timeout_ms);

/**
 * The paper's *Read*: waits for a message, copies it, and returns its length; `IDC_END` when the peer has finished.
 * `IDC_E_BUFFER_TOO_SMALL`: the message stays; `idc_error.needed` is its length.
 */
int64_t idc_read(struct idc_channel *channel,
                 void *buffer,
                 size_t room);

/**
 * As `idc_read`, without waiting.
 */
int64_t idc_try_read(struct idc_channel *channel, void *buffer, size_t room);

/**
 * As `idc_read`, waiting at most `timeout_ms` milliseconds (negative: for ever). A limit that passes loses nothing.
 */
int64_t idc_timed_read(struct idc_channel *channel,
                       void *buffer,
                       size_t room,
                       int timeout_ms);

/**
 * Waits for a message at most `timeout_ms` milliseconds (negative: for ever), and takes as many more as are there
 * already, up to `most`: returns how many, and `IDC_END` when the peer has finished. They are copied one behind the
 * other, and their lengths stored in `lens`. What has no more room stays; `IDC_E_BUFFER_TOO_SMALL` is for the first one.
 */
int64_t idc_read_batch(struct idc_channel *channel,
                       void *buffer,
                       size_t room,
                       size_t *lens,
                       size_t most,
                       int timeout_ms);

/**
 * Waits for a message at most `timeout_ms` milliseconds (negative: for ever), copies as much of it as there is room
 * for, and returns its whole length. The message stays.
 */
int64_t idc_peek(struct idc_channel *channel,
                 void *buffer,
                 size_t room,
                 int timeout_ms);

/**
 * Makes two channels of one that goes both ways, for two threads: `channel` reads from now on, and the one in
 * `writer` writes. Each is closed for itself.
 */
int idc_split(struct idc_channel *channel, struct idc_channel **writer);

/**
 * The domain on the other side, as Xen attests it.
 */
int idc_peer(struct idc_channel *channel);

/**
 * Longest message that is written in one piece; longer ones are cut, which is invisible to the reader.
 */
int64_t idc_max_inline(struct idc_channel *channel);

/**
 * Counters of this channel, as a JSON object with the members `sent` and `received` (or one of them). Writes at
 * most `room` bytes with the final zero, and returns the length of the whole text without it.
 */
int64_t idc_stats_json(struct idc_channel *channel,
                       char *buffer,
                       size_t room);

/**
 * Closes a channel. What was written before is still read by the peer; if this side has not called `idc_finish`, the
 * peer then gets `IDC_E_PEER_CLOSED`.
 */
int idc_channel_close(struct idc_channel *channel);

/**
 * A short text for an `idc_status`; never null, never to be freed.
 */
const char *idc_strerror(int status);

/**
 * Stores the details of the error that a function returned to this thread last. Without one (or when the function
 * failed because of its arguments) the status is `IDC_OK`.
 */
int idc_last_error(struct idc_error *error);

/**
 * The version of this interface: 0x00MMmmpp.
 */
uint32_t idc_version(void);

/**
 * The paper's *Init*: opens inter-domain communication.
 *
 * In a domain of the library OS that is the kernel's; in Linux it is Xen's devices, or, with `IDC_HOSTED=N` in the
 * environment, the hosted platform, in which this process plays domain N (`any`: some free number) for other
 * processes of this user. `IDC_DIRECTORY` is the folder that they share.
 */
int idc_open(struct idc_context **out);

/**
 * Opens the hosted platform: plays domain `domid` (-1: some free number) among the processes that use this
 * directory (null: the user's usual one). `IDC_E_NO_PLATFORM` in a domain.
 */
int idc_open_hosted(int number, const char *directory, struct idc_context **out);

/**
 * The paper's *Close*. Channels and listeners stay open.
 */
int idc_close(struct idc_context *idc);

/**
 * This domain's id.
 */
int idc_domid(struct idc_context *idc);

/**
 * Counters of all channels of this context, as a JSON object: violations by reason, peers that died, refused clients.
 * Writes at most `room` bytes with the final zero, and returns the length of the whole text without it.
 */
int64_t idc_counters_json(struct idc_context *idc,
                          char *buffer,
                          size_t room);

/**
 * The paper's *Create*: makes a ring that domain `peer` may read. The channel writes. The peer connects with the
 * number that is stored in `gref`.
 */
int idc_create(struct idc_context *idc,
               int peer,
               const struct idc_config *settings,
               struct idc_channel **out,
               uint32_t *gref);

/**
 * The paper's *Connect*: opens the ring that domain `peer` made. The channel reads.
 */
int idc_connect(struct idc_context *idc,
                int peer,
                uint32_t gref,
                const struct idc_config *settings,
                struct idc_channel **out);

/**
 * Starts a channel in both directions: as `idc_create`, and the peer calls `idc_answer` with the number. The channel
 * is of use after `idc_complete`.
 */
int idc_offer(struct idc_context *idc,
              int peer,
              const struct idc_config *settings,
              struct idc_channel **out,
              uint32_t *gref);

/**
 * The other end of `idc_offer`. The channel can be used at once.
 */
int idc_answer(struct idc_context *idc,
               int peer,
               uint32_t gref,
               const struct idc_config *settings,
               struct idc_channel **out);

/**
 * Connects to a service of domain `peer` by its name; waits until it is there and accepts, at most `timeout_ms`
 * milliseconds (negative: for ever).
 */
int idc_dial(struct idc_context *idc,
             int peer,
             const char *service,
             const struct idc_config *settings,
             int timeout_ms,
             struct idc_channel **out);

/**
 * Connects anew to the service after it has gone: with the pages of this channel, which has to be one of `idc_dial` that
 * was not split, so that nothing is allocated for the direction in which this side writes. If it fails, close the channel.
 */
int idc_redial(struct idc_context *idc,
               struct idc_channel *channel,
               const char *service,
               const struct idc_config *settings,
               int timeout_ms);

/**
 * Pages of this side that domain `peer` (-1: any) still has mapped although their channels are closed. Linux keeps such
 * pages by itself; there it is 0.
 */
int64_t idc_quarantined(struct idc_context *idc,
                        int peer);

/**
 * Offers a service under a name of 1 to 32 small letters, digits and `-`.
 */
int idc_listen(struct idc_context *idc,
               const char *service,
               const struct idc_listen_config *settings,
               struct idc_listener **out);

/**
 * The next client, waited for at most `timeout_ms` milliseconds (negative: for ever). Nothing that a client does
 * makes this fail.
 */
int idc_accept(struct idc_listener *listener,
               int timeout_ms,
               struct idc_channel **out);

/**
 * Takes the name back. Channels stay open.
 */
int idc_listener_close(struct idc_listener *listener);

/**
 * A descriptor for `poll` and `epoll`; it belongs to the channel. `IDC_E_NO_PLATFORM` in a domain.
 */
int idc_fd(struct idc_channel *channel);

/**
 * Asks for an event when there is something to read. 1: there is (or the channel has ended); do not poll, but read.
 */
int idc_arm_read(struct idc_channel *channel);

/**
 * Asks for an event when a message of `len` bytes has room. 1: it has (or the channel has ended); do not poll, but
 * write.
 */
int idc_arm_write(struct idc_channel *channel,
                  size_t len);

/**
 * Takes the event that made the descriptor readable: 1 if there was one.
 */
int idc_take_event(struct idc_channel *channel);

/**
 * Looks whether the peer is still there: nobody sends an event when a domain is destroyed.
 */
int idc_check_peer(struct idc_channel *channel);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CASEMATE_IDC_H */
