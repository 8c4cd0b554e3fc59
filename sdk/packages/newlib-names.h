/* Included before each of newlib's mathematics tests, see newlib-names.c. */
int __issignaling(double);
int __issignalingf(float);
int issignaling(double);
float atoff(const char *);
char *ecvtf(float, int, int *, int *), *fcvtf(float, int, int *, int *), *gcvtf(float, int, char *);
