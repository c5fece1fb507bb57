#include "autoglm/model/device_kernels.h"

#include <array>
#include <atomic>

namespace autoglm {
namespace {

using Table = std::atomic<const DeviceKernels*>;

Table& table_of(at::DeviceType type) {
  static std::array<Table, at::COMPILE_TIME_MAX_DEVICE_TYPES> tables{};
  return tables.at(static_cast<std::size_t>(type));
}

}  // namespace

void set_device_kernels(at::DeviceType type, const DeviceKernels* kernels) {
  table_of(type) = kernels;
}

const DeviceKernels* device_kernels_for(at::Device device) {
  return table_of(device.type());
}

}  // namespace autoglm
