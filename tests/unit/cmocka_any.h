/* cmocka 1 and 2: the latter has assert_in_range for each sign, and calls the one for both deprecated. */
#pragma once

#include <cmocka.h>

#ifdef assert_int_in_range
#undef assert_in_range
#define assert_in_range(value, minimum, maximum) assert_int_in_range(value, minimum, maximum)
#endif
