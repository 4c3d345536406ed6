#pragma once
/// Answers /tidegate/... on EAL's telemetry socket from published numbers, without stopping workers. Internal to
/// lib/dpdk. DPDK's commands carry no context and cannot be taken back, so the one Runtime to answer for is kept here.
/// Thread rule: attach() and detach() from the main thread; answers run on EAL's telemetry thread under a lock that
/// detach() takes too. Errors: none are fatal; a command that cannot be registered is left out. Limits (22.11): an
/// answer of 16 KB, strings of 127 octets, names of [A-Za-z0-9_/].

namespace tidegate {

class Runtime;

void attach_telemetry(const Runtime* runtime);
void detach_telemetry(const Runtime* runtime);

}  // namespace tidegate
