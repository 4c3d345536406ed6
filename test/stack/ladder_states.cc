#include "ladder.hh"

/// The positions of a Ladder: one constructor for each state, through both kinds of open.

namespace tidegate {

void Ladder::syn_sent() {
  const ConnectResult result = connect();
  EXPECT_EQ(result.error, ConnectError::kOk);
  EXPECT_TRUE(result.connection.valid());
  expect(seg(kSyn).seq(0));
  EXPECT_EQ(state(), TcpState::kSynSent) << text();
}

void Ladder::syn_received(Open open) {
  if (open == Open::kActive) syn_sent();
  Seg syn = setup_.peer_syn;
  syn.flags = kSyn;
  send(syn);
  expect(seg(kSyn | kAck).seq(0).ack(1));
  EXPECT_EQ(state(), TcpState::kSynReceived) << text();
}

void Ladder::established(Open open) {
  if (open == Open::kPassive) {
    syn_received(open);
    Seg ack = seg(kAck);
    if (setup_.peer_syn.ts_) ack.ts_ = TimestampsOption{setup_.peer_syn.ts_->value, 0};
    send(ack);
    expect_nothing();
    EXPECT_EQ(service_->count(EventType::kAccepted), 1u) << text();
  } else {
    syn_sent();
    Seg syn_ack = setup_.peer_syn;
    syn_ack.flags = kSyn | kAck;
    send(syn_ack);
    expect(seg(kAck).seq(1).ack(1));
    EXPECT_EQ(service_->count(EventType::kConnected), 1u) << text();
  }
  EXPECT_EQ(state(), TcpState::kEstablished) << text();
}

void Ladder::fin_wait_1(Open open) {
  established(open);
  shutdown();
  expect(seg(kFin | kAck).seq(1).ack(1));
  EXPECT_EQ(state(), TcpState::kFinWait1) << text();
}

void Ladder::fin_wait_2(Open open) {
  fin_wait_1(open);
  send(seg(kAck));
  expect_nothing();
  EXPECT_EQ(state(), TcpState::kFinWait2) << text();
}

void Ladder::close_wait(Open open) {
  established(open);
  send(seg(kFin | kAck));
  expect(seg(kAck).seq(1).ack(2));
  EXPECT_EQ(service_->count(EventType::kPeerClosed), 1u) << text();
  EXPECT_EQ(state(), TcpState::kCloseWait) << text();
}

void Ladder::closing(Open open) {
  fin_wait_1(open);
  // The FINs crossed: the peer's does not acknowledge ours.
  send(seg(kFin | kAck).ack(1));
  expect(seg(kAck).seq(2).ack(2));
  EXPECT_EQ(state(), TcpState::kClosing) << text();
}

void Ladder::last_ack(Open open) {
  close_wait(open);
  shutdown();
  expect(seg(kFin | kAck).seq(1).ack(2));
  EXPECT_EQ(state(), TcpState::kLastAck) << text();
}

void Ladder::time_wait(Open open) {
  fin_wait_2(open);
  send(seg(kFin | kAck));
  expect(seg(kAck).seq(2).ack(2));
  EXPECT_EQ(state(), TcpState::kTimeWait) << text();
}

void Ladder::to(TcpState state, Open open) {
  switch (state) {
    case TcpState::kSynSent:
      return syn_sent();
    case TcpState::kSynReceived:
      return syn_received(open);
    case TcpState::kEstablished:
      return established(open);
    case TcpState::kFinWait1:
      return fin_wait_1(open);
    case TcpState::kFinWait2:
      return fin_wait_2(open);
    case TcpState::kCloseWait:
      return close_wait(open);
    case TcpState::kClosing:
      return closing(open);
    case TcpState::kLastAck:
      return last_ack(open);
    case TcpState::kTimeWait:
      return time_wait(open);
    case TcpState::kClosed:
    case TcpState::kListen:
    case TcpState::kCount:
      return;
  }
}

}  // namespace tidegate
