#pragma once
/// Which sanitizer the file is compiled for, of GCC or clang: TG_ADDRESS_SANITIZER and TG_THREAD_SANITIZER are 0 or 1.
/// Constants, so ownership, thread rule, errors and cost: none.

#if defined(__has_feature)
#define TG_HAS_FEATURE(feature) __has_feature(feature)
#else
#define TG_HAS_FEATURE(feature) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || TG_HAS_FEATURE(address_sanitizer)
#define TG_ADDRESS_SANITIZER 1
#else
#define TG_ADDRESS_SANITIZER 0
#endif

#if defined(__SANITIZE_THREAD__) || TG_HAS_FEATURE(thread_sanitizer)
#define TG_THREAD_SANITIZER 1
#else
#define TG_THREAD_SANITIZER 0
#endif
