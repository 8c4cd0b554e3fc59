/* Numbers shared by standin.c and standin.S. */
#define STANDIN_POLICY_LEN 512
#define STANDIN_FORWARD 255
