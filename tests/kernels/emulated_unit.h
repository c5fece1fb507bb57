// The integer product by an emulated matrix unit, so that what lies around the
// instructions is tested on every machine.
#pragma once

#include "kernels/integer_implementation.h"

namespace autoglm::test {

const kernels::IntegerImplementation& emulated_unit();
/// One whose unit takes x for unsigned.
const kernels::IntegerImplementation& wrong_unit();

}  // namespace autoglm::test
