//! A connection whose controller is driven.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::congestion::{Controller, ControllerFactory};

use super::BaseChoice;
use super::flow::Flow;
use super::rtt::environment;
use crate::GovernedController;
use crate::law::constants::Tuning;

/// Bytes of headers on the wire.
const HEADERS: u64 = 42;

pub(super) struct Connection {
    base: BaseChoice,
    /// The number of the flow that it uses.
    pub(super) flow: usize,
    controller: GovernedController,
    mtu: u64,
    pub(super) srtt: Duration,
    next_number: u64,
    /// In flight: when sent, and bytes.
    flight: VecDeque<(Instant, u64)>,
    in_flight: u64,
    /// The window was under base's since the last acknowledgements.
    capped: bool,
    /// When the base controller was last reduced for a local drop or the end of slow start.
    reduced: Option<Instant>,
}

impl Connection {
    /// One that uses this flow.
    pub(super) fn new(base: BaseChoice, number: usize, flow: &Flow, now: Instant) -> Self {
        let controller = Arc::clone(&flow.governor).build(now, 1200).into_any();
        let controller = *controller
            .downcast::<GovernedController>()
            .expect("it watches a flow");
        Self {
            base,
            flow: number,
            controller,
            mtu: 1200,
            srtt: Duration::from_millis(20),
            next_number: 0,
            flight: VecDeque::new(),
            in_flight: 0,
            capped: false,
            reduced: None,
        }
    }

    pub(super) fn base_window(&self) -> u64 {
        self.controller.base().window()
    }

    pub(super) fn check_window(&mut self) {
        let (window, base) = (self.window(), self.base_window());
        assert!(window <= base, "{window} is over base's {base}");
        assert!(
            window >= base.min(2 * self.mtu),
            "{window} is under two datagrams of {}",
            self.mtu
        );
    }

    pub(super) fn window(&mut self) -> u64 {
        let window = self.controller.window();
        self.capped |= window < self.base_window();
        window
    }

    pub(super) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu);
        self.controller.on_mtu_update(mtu);
    }

    pub(super) fn migrate(&mut self) {
        let moved = self.controller.clone_box().into_any();
        self.controller = *moved.downcast().expect("a clone is of the same type");
        self.flight.clear();
        self.in_flight = 0;
        self.capped = false;
    }

    /// The same connection on another socket, whose flow the source counts from the start.
    pub(super) fn move_to(&mut self, now: Instant, number: usize, flow: &Flow) {
        self.flow = number;
        let watched = flow.governor.flow().expect("it watches a flow");
        self.controller.change_flow(now, Arc::clone(watched));
    }

    /// Observing changes nothing.
    pub(super) fn observe(&self, flow: &Flow) {
        let (window, before) = (self.controller.window(), flow.governor.report());
        let metrics = self.controller.metrics();
        assert_eq!(metrics.congestion_window, window);
        let copy = self.controller.clone_box();
        assert!(copy.window() <= copy.metrics().congestion_window);
        drop(copy);
        assert_eq!(flow.governor.report(), before);
        assert_eq!(self.controller.window(), window);
    }

    pub(super) fn send_ack(&mut self, now: Instant, flow: &mut Flow) {
        self.next_number += 1;
        self.controller.on_sent(now, 40, self.next_number - 1);
        self.note_reductions(now, flow);
        flow.link.enter(1, 40 + HEADERS);
        flow.tell();
    }

    pub(super) fn send(&mut self, now: Instant, flow: &mut Flow, up_to: u64) {
        let mut left = up_to;
        while left > 0 {
            let in_flight = self.in_flight;
            let mut batch = 0;
            while batch < left.min(10) && in_flight + (batch + 1) * self.mtu < self.window() {
                batch += 1;
            }
            if batch == 0 {
                break;
            }
            left -= batch;
            self.next_number += batch;
            self.controller
                .on_sent(now, batch * self.mtu, self.next_number - 1);
            self.note_reductions(now, flow);
            for _ in 0..batch {
                self.flight.push_back((now, self.mtu));
            }
            self.in_flight += batch * self.mtu;
            flow.accept(batch, self.mtu + HEADERS);
        }
    }

    pub(super) fn ack(
        &mut self,
        now: Instant,
        flow: &mut Flow,
        datagrams: usize,
        app_limited: bool,
    ) {
        let datagrams = datagrams.min(self.flight.len());
        let window = self.window();
        let before = self.base_window();
        let capped = self.capped;
        let mut acked = 0;
        let (_, rtts) = environment();
        let estimator = *rtts.nearest(self.srtt);
        for (sent, bytes) in self.flight.drain(..datagrams) {
            let rtt = now - sent;
            self.srtt = (self.srtt * 7 + rtt) / 8;
            acked += bytes;
            self.in_flight -= bytes;
            self.controller
                .on_ack(now, sent, bytes, app_limited, &estimator);
        }
        let in_flight = self.in_flight;
        let largest = self.next_number.checked_sub(1);
        self.controller
            .on_end_acks(now, in_flight, app_limited, largest);
        self.note_reductions(now, flow);
        self.capped = false;
        if capped && self.base != BaseChoice::Bbr {
            // What counts is the cap at the sample taken with the acknowledgements: it may find
            // that the sample has not changed or that the source is back. An acknowledgement may
            // cross the bound.
            let cap = window.max(self.controller.cap());
            let covered = cap.saturating_mul(Tuning::STANDARD.slow_start_cover);
            let bound = before.max(covered.saturating_add(acked.min(9_000)));
            let after = self.base_window();
            assert!(
                after <= bound,
                "base grew from {before} to {after} behind a cap of {window}"
            );
        }
    }

    pub(super) fn lose(
        &mut self,
        now: Instant,
        flow: &mut Flow,
        datagrams: usize,
        persistent: bool,
    ) {
        let datagrams = datagrams.min(self.flight.len());
        let lost: Vec<_> = self.flight.drain(..datagrams).collect();
        let Some(&(sent, _)) = lost.last() else {
            return;
        };
        let bytes = lost.iter().map(|(_, bytes)| bytes).sum();
        self.in_flight -= bytes;
        let before = self.base_window();
        self.controller
            .on_congestion_event(now, sent, persistent, bytes);
        let reduced_now = self.note_reductions(now, flow);
        let known = self.reduced.is_some_and(|reduced| sent <= reduced);
        if known && !persistent && !reduced_now && self.base != BaseChoice::Bbr {
            assert_eq!(self.base_window(), before, "reduced twice for one loss");
        }
    }

    pub(super) fn mark(&mut self, now: Instant, flow: &mut Flow) {
        if let Some(&(sent, _)) = self.flight.back() {
            self.controller.on_congestion_event(now, sent, false, 0);
            self.note_reductions(now, flow);
        }
    }

    /// Whether the law reduced base in the call that was just made.
    fn note_reductions(&mut self, now: Instant, flow: &mut Flow) -> bool {
        let more = flow.counts_more_reductions();
        if more {
            self.reduced = Some(now);
        }
        more
    }

    /// Without signals, step by step what base does alone.
    pub(super) fn compare_with_base(&mut self, mut now: Instant) {
        let mut twin = self.controller.base().clone_box();
        let (_, rtts) = environment();
        let estimator = *rtts.nearest(Duration::from_millis(20));
        for round in 0..40 {
            let sent = now;
            self.next_number += 10;
            let (bytes, number) = (10 * self.mtu, self.next_number - 1);
            self.controller.on_sent(sent, bytes, number);
            let sent_at = self.controller.base_time(sent);
            twin.on_sent(sent_at, bytes, number);
            now += Duration::from_millis(20);
            if round % 16 == 7 {
                self.controller.on_congestion_event(now, sent, false, bytes);
                let time = self.controller.base_time(now);
                twin.on_congestion_event(time, time, false, bytes);
            } else {
                for _ in 0..10 {
                    self.controller
                        .on_ack(now, sent, self.mtu, false, &estimator);
                    let time = self.controller.base_time(now);
                    let sent_at = self.controller.base_time(sent);
                    twin.on_ack(time, sent_at, self.mtu, false, &estimator);
                }
                self.controller.on_end_acks(now, 0, false, Some(number));
                twin.on_end_acks(self.controller.base_time(now), 0, false, Some(number));
            }
            assert_eq!(self.controller.window(), twin.window(), "round {round}");
        }
    }
}
