/* ProcessPrng for a Wine that does not bring bcryptprimitives.dll yet (8.0), from the generator it has. Rust's standard
   library needs it. */
#include <windows.h>
#include <ntsecapi.h> /* RtlGenRandom, exported as SystemFunction036 */

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T len) {
    while (len > 0) {
        ULONG part = len > 0x10000 ? 0x10000 : (ULONG)len;
        if (!RtlGenRandom(data, part)) { return FALSE; }
        data += part;
        len -= part;
    }
    return TRUE;
}
