/* Floating point: known values, special cases, and the state of the processor that they need (x87 precision,
 * rounding mode, exceptions masked), also in a new thread. */
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include "check.h"

/* Keeps the compiler from computing at compile time. */
static volatile double v;
#define OF(x) (v = (x), v)

/* Within `ulps` units in the last place of `expected`. */
static int near(double x, double expected, int ulps)
{
	double unit = nextafter(fabs(expected), INFINITY) - fabs(expected);
	return fabs(x - expected) <= ulps * unit;
}

static void values(void)
{
	CHECK(near(sin(OF(1.25)), 0.94898461935558621435, 1));
	CHECK(near(cos(OF(1.25)), 0.31532236239526866545, 1));
	CHECK(near(tan(OF(1.25)), 3.00956967386283128820, 1));
	CHECK(near(sin(OF(1e22)), -0.85220084976718880178, 1));
	CHECK(near(asin(OF(0.5)), 0.52359877559829887308, 1) && near(acos(OF(0.5)), 1.04719755119659774615, 1));
	CHECK(near(atan2(OF(1), -1), 2.35619449019234492885, 1));
	CHECK(near(exp(OF(1)), 2.71828182845904523536, 1) && near(exp2(OF(0.5)), 1.41421356237309504880, 1));
	CHECK(near(expm1(OF(1e-10)), 1.00000000005000000000e-10, 1));
	CHECK(near(log(OF(10)), 2.30258509299404568402, 1) && near(log1p(OF(1e-10)), 9.9999999995e-11, 1));
	CHECK(log2(OF(1024)) == 10 && log10(OF(1000)) == 3);
	CHECK(near(pow(OF(2), 0.5), 1.41421356237309504880, 1) && pow(OF(3), 20) == 3486784401.0);
	CHECK(near(sinh(OF(1)), 1.17520119364380145688, 2) && near(cosh(OF(1)), 1.54308063481524377848, 2));
	CHECK(near(tanh(OF(0.5)), 0.46211715726000975850, 2));
	CHECK(near(cbrt(OF(2)), 1.25992104989487316477, 1) && hypot(OF(3), 4) == 5);
	CHECK(near(erf(OF(0.5)), 0.52049987781304653768, 2) && near(erfc(OF(3)), 2.20904969985854413728e-05, 2));
	CHECK(near(tgamma(OF(5.5)), 52.34277778455352018115, 4) && near(lgamma(OF(10.5)), 13.94062521940376363316, 4));
	CHECK(near(j0(OF(1)), 0.76519768655796655145, 4));
	CHECK(sqrt(OF(2)) == 0x1.6a09e667f3bcdp+0 && fma(OF(0x1p-52), 0x1p-52, 1) == 1);
	CHECK(floor(OF(-1.5)) == -2 && ceil(OF(-1.5)) == -1 && trunc(OF(-1.5)) == -1 && round(OF(-1.5)) == -2);
	CHECK(rint(OF(2.5)) == 2 && nearbyint(OF(3.5)) == 4 && lrint(OF(-2.5)) == -2 && llround(OF(2.5)) == 3);
	CHECK(fmod(OF(7.5), 2) == 1.5 && remainder(OF(7.5), 2) == -0.5);
	int exponent;
	CHECK(frexp(OF(48), &exponent) == 0.75 && exponent == 6 && ldexp(OF(0.75), 6) == 48);
	double whole;
	CHECK(modf(OF(-3.25), &whole) == -0.25 && whole == -3);
}

static void special(void)
{
	double zero = OF(0);
	CHECK(isinf(1 / zero) && isnan(zero / zero) && signbit(-zero) && isnan(sqrt(OF(-1))));
	CHECK(isinf(exp(OF(1000))) && exp(OF(-1000)) == 0 && isinf(log(zero)) && isnan(log(OF(-1))));
	CHECK(OF(DBL_MIN) / 2 > 0);	/* no flush to zero */
	CHECK(fpclassify(OF(1e-310)) == FP_SUBNORMAL && nextafter(OF(0), 1) == 0x1p-1074);
	CHECK(fmax(OF(NAN), 1) == 1 && copysign(OF(1), -0.0) == -1);
}

static void state(void)
{
	/* All 64 bits of the x87 mantissa. */
	volatile long double one = 1, third = one / 3;
	CHECK(one + LDBL_EPSILON != one && third * 3 == one);
	CHECK(third == 0xaaaaaaaaaaaaaaabp-65L);
	CHECK(fabsl(sinl(1.25L) - 0.948984619355586214348490847036L) < 2 * LDBL_EPSILON);
	CHECK(fabsl(expl(1) - 2.718281828459045235360287471353L) < 4 * LDBL_EPSILON);
	CHECK(fegetround() == FE_TONEAREST && feclearexcept(FE_ALL_EXCEPT) == 0 && fetestexcept(FE_ALL_EXCEPT) == 0);
	volatile double x = 1, y = 3, zero = 0;
	CHECK(fesetround(FE_UPWARD) == 0);
	volatile double up = x / y;
	CHECK(fesetround(FE_DOWNWARD) == 0);
	volatile double down = x / y;
	CHECK(fesetround(FE_TONEAREST) == 0 && nextafter(down, 1) == up);
	feclearexcept(FE_ALL_EXCEPT);
	volatile double infinite = x / zero;
	CHECK(isinf(infinite) && fetestexcept(FE_DIVBYZERO | FE_INVALID) == FE_DIVBYZERO);
	feclearexcept(FE_ALL_EXCEPT);
}

static void *in_thread(void *arg)
{
	values();
	special();
	state();
	return arg;
}

int main(void)
{
	in_thread(0);
	pthread_t thread;
	if (CHECK(pthread_create(&thread, 0, in_thread, 0) == 0)) CHECK(pthread_join(thread, 0) == 0);
	/* Another thread's rounding mode is its own. */
	CHECK(fegetround() == FE_TONEAREST);
	return DONE();
}
