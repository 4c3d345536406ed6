#pragma once
/// EAL's interrupt thread at the end of a process. It goes through handles in EAL's memory whenever a device has come
/// or gone; rte_eal_cleanup() removes devices and then unmaps that memory while the thread may read it (22.11
/// to 26.07), and the process dies of it when the thread gets a CPU too late. So it is put where it does none of this.
/// Ownership: none. Thread rule: the main thread, after the last port was closed. Cost: one wake-up of that thread.

namespace tidegate {

/// Keeps EAL's interrupt thread in a callback until the process ends; it holds no lock there, and as nobody else knows
/// of the callback nobody waits for it. False: it could not be made, or the thread did not come within five seconds.
bool park_interrupt_thread();

}  // namespace tidegate
