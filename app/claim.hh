#pragma once
/// Keeps two instances off the same kernel interface. Packet sockets and multi-queue taps let a second process in
/// without a word, and each would then reset the other's connections.
/// How: an abstract UNIX socket named for the interface, which the kernel keeps per network namespace and gives back
/// however the process ends. Ownership: the claim holds its sockets. Thread rule: main thread. Errors: name the
/// argument, the interface and the process that has it.

#include <string>
#include <utility>
#include <vector>

#include "base/result.hh"

namespace tidegate::app {

class InterfaceClaim {
 public:
  InterfaceClaim() = default;
  InterfaceClaim(InterfaceClaim&& other) noexcept : sockets_(std::exchange(other.sockets_, {})) {}
  InterfaceClaim& operator=(InterfaceClaim&& other) noexcept {
    std::swap(sockets_, other.sockets_);
    return *this;
  }
  ~InterfaceClaim();

  /// Claims every interface that the virtual devices among these EAL arguments name (`iface=`).
  [[nodiscard]] static Result<InterfaceClaim> take(const std::vector<std::string>& eal_arguments);

 private:
  std::vector<int> sockets_;
};

}  // namespace tidegate::app
