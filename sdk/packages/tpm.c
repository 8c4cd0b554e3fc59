/* A TPM 2.0 in one program: Debian's libtpms.a, unchanged, over OpenSSL's libcrypto.a.
 *
 * Runs TPM2_Startup, TPM2_SelfTest, TPM2_GetRandom, TPM2_PCR_Extend and TPM2_PCR_Read (TCG TPM 2.0 Library
 * Specification, part 3) and checks the answers. State lives in memory only. */
#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
#include <libtpms/tpm_nvfilename.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the TPM's non-volatile memory ---- */

struct blob {
	char name[64];
	unsigned char *data;
	uint32_t length;
};
static struct blob blobs[8];

static struct blob *find(const char *name)
{
	for (size_t i = 0; i < sizeof blobs / sizeof *blobs; i++)
		if (blobs[i].data && strcmp(blobs[i].name, name) == 0) return &blobs[i];
	return 0;
}

static TPM_RESULT nvram_init(void)
{
	return TPM_SUCCESS;
}

static TPM_RESULT nvram_load(unsigned char **data, uint32_t *length, uint32_t tpm, const char *name)
{
	(void)tpm;
	struct blob *blob = find(name);
	if (!blob) return TPM_RETRY;	/* "no such file": a new TPM is made */
	*data = malloc(blob->length);
	if (!*data) return TPM_SIZE;
	memcpy(*data, blob->data, blob->length);
	*length = blob->length;
	return TPM_SUCCESS;
}

static TPM_RESULT nvram_store(const unsigned char *data, uint32_t length, uint32_t tpm, const char *name)
{
	(void)tpm;
	struct blob *blob = find(name);
	for (size_t i = 0; !blob && i < sizeof blobs / sizeof *blobs; i++)
		if (!blobs[i].data) blob = &blobs[i];
	unsigned char *copy = malloc(length);
	if (!blob || !copy) return TPM_SIZE;
	memcpy(copy, data, length);
	free(blob->data);
	snprintf(blob->name, sizeof blob->name, "%s", name);
	blob->data = copy;
	blob->length = length;
	return TPM_SUCCESS;
}

static TPM_RESULT nvram_delete(uint32_t tpm, const char *name, TPM_BOOL must_exist)
{
	(void)tpm;
	struct blob *blob = find(name);
	if (!blob) return must_exist ? TPM_FAIL : TPM_SUCCESS;
	free(blob->data);
	blob->data = 0;
	return TPM_SUCCESS;
}

static TPM_RESULT io_init(void)
{
	return TPM_SUCCESS;
}

static TPM_RESULT io_locality(TPM_MODIFIER_INDICATOR *locality, uint32_t tpm)
{
	(void)tpm;
	*locality = 0;
	return TPM_SUCCESS;
}

static TPM_RESULT io_presence(TPM_BOOL *present, uint32_t tpm)
{
	(void)tpm;
	*present = 0;
	return TPM_SUCCESS;
}

/* ---- commands ---- */

static uint32_t be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

static unsigned char *response;
static uint32_t response_size, response_room;

/* Sends one command; ends the program unless the TPM answers TPM_RC_SUCCESS with at least `want` bytes. */
static void run(const char *name, const unsigned char *command, size_t size, uint32_t want)
{
	unsigned char copy[128];
	memcpy(copy, command, size);
	TPM_RESULT result = TPMLIB_Process(&response, &response_size, &response_room, copy, size);
	if (result != TPM_SUCCESS || response_size < 10 || be32(response + 2) != response_size) {
		printf("%s: library answers %#x\n", name, (unsigned)result);
		exit(1);
	}
	uint32_t code = be32(response + 6);
	printf("%s: response code %#x, %u bytes\n", name, (unsigned)code, (unsigned)response_size);
	if (code != 0 || response_size < want) exit(1);
}

static const unsigned char startup[] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0};
static const unsigned char self_test[] = {0x80, 0x01, 0, 0, 0, 11, 0, 0, 0x01, 0x43, 1};
static const unsigned char get_random[] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7b, 0, 32};
/* PCR 16 (the debug PCR), password session with an empty password, one SHA-256 digest of 32 times 0x11. */
static const unsigned char extend_head[] = {
	0x80, 0x02, 0, 0, 0, 65, 0, 0, 0x01, 0x82, 0, 0, 0, 16, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0,
	0, 0, 0, 1, 0, 0x0b,
};
static const unsigned char pcr_read[] = {
	0x80, 0x01, 0, 0, 0, 20, 0, 0, 0x01, 0x7e, 0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 1,
};
/* SHA-256 of 32 zero bytes and 32 times 0x11: the PCR after that extension. */
static const unsigned char extended[32] = {
	0x88, 0x78, 0xb1, 0x5a, 0x7d, 0x6a, 0x3a, 0x4f, 0x46, 0x4e, 0x8f, 0x9f,
	0x42, 0x59, 0x1d, 0xbc, 0x0c, 0xf4, 0xbe, 0xde, 0xa0, 0xec, 0x30, 0x90,
	0x03, 0xd2, 0xb2, 0xee, 0x53, 0x65, 0x5e, 0xf8,
};

int main(void)
{
	struct libtpms_callbacks callbacks = {
		.sizeOfStruct = sizeof callbacks,
		.tpm_nvram_init = nvram_init,
		.tpm_nvram_loaddata = nvram_load,
		.tpm_nvram_storedata = nvram_store,
		.tpm_nvram_deletename = nvram_delete,
		.tpm_io_init = io_init,
		.tpm_io_getlocality = io_locality,
		.tpm_io_getphysicalpresence = io_presence,
	};
	TPM_RESULT result = TPMLIB_RegisterCallbacks(&callbacks);
	if (result == TPM_SUCCESS) result = TPMLIB_ChooseTPMVersion(TPMLIB_TPM_VERSION_2);
	if (result == TPM_SUCCESS) result = TPMLIB_MainInit();
	if (result != TPM_SUCCESS) {
		printf("libtpms does not start: %#x\n", (unsigned)result);
		return 1;
	}
	run("TPM2_Startup", startup, sizeof startup, 10);
	run("TPM2_SelfTest", self_test, sizeof self_test, 10);

	unsigned char first[32];
	run("TPM2_GetRandom", get_random, sizeof get_random, 44);
	memcpy(first, response + 12, 32);
	run("TPM2_GetRandom", get_random, sizeof get_random, 44);
	if (memcmp(first, response + 12, 32) == 0) {
		printf("the same random bytes twice\n");
		return 1;
	}

	unsigned char extend[sizeof extend_head + 32];
	memcpy(extend, extend_head, sizeof extend_head);
	memset(extend + sizeof extend_head, 0x11, 32);
	run("TPM2_PCR_Extend", extend, sizeof extend, 10);
	run("TPM2_PCR_Read", pcr_read, sizeof pcr_read, 10 + 4 + 10 + 4 + 2 + 32);
	if (memcmp(response + response_size - 32, extended, 32) != 0) {
		printf("PCR 16 has another value than the specification says\n");
		return 1;
	}
	TPMLIB_Terminate();
	printf("TPM 2.0: all commands succeeded\n");
	return 0;
}
