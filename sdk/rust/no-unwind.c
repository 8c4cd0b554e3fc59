/* The unwinder's functions for Rust programs with panic=abort and without backtraces: never called, but named by
 * the landing pads of the prebuilt std. In place of 45 KB of libunwind; see crates/sdk/src/rust.rs. */
#include <stdlib.h>

#define NEVER(name) \
	void name(void) \
	{ \
		abort(); \
	}

NEVER(_Unwind_Backtrace)
NEVER(_Unwind_DeleteException)
NEVER(_Unwind_FindEnclosingFunction)
NEVER(_Unwind_GetCFA)
NEVER(_Unwind_GetDataRelBase)
NEVER(_Unwind_GetIP)
NEVER(_Unwind_GetIPInfo)
NEVER(_Unwind_GetLanguageSpecificData)
NEVER(_Unwind_GetRegionStart)
NEVER(_Unwind_GetTextRelBase)
NEVER(_Unwind_RaiseException)
NEVER(_Unwind_Resume)
NEVER(_Unwind_SetGR)
NEVER(_Unwind_SetIP)
