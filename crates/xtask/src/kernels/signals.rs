//! The signals of the table: what each needs and which tests show that it is right.

/// A row of the table.
pub(super) struct Signal {
    pub(super) name: &'static str,
    /// Capabilities without which it is absent; of names with a `|` between them one will do.
    pub(super) needs: &'static [&'static str],
    /// Tests of it: names, or what names begin with.
    pub(super) tests: &'static [&'static str],
}

/// What a queue's bytes need.
const QUEUE: &[&str] = &["qdisc_enqueue", "qdisc_dequeue", "qdisc_reset"];

/// All signals. A test of no signal has a row of its own.
pub(super) const SIGNALS: [Signal; 25] = [
    Signal {
        name: "datagrams and bytes sent, of a socket and of a peer",
        needs: &["net_dev_queue"],
        tests: &["bytes_sent::udp_datagrams"],
    },
    Signal {
        name: "UDP bytes and calls that sockets accepted, host and socket",
        needs: &["sock_send_length|udp_sendmsg"],
        tests: &["bytes_sent::udp_calls"],
    },
    Signal {
        name: "TCP bytes and calls, host and socket; packets",
        needs: &["sock_send_length|udp_sendmsg"],
        tests: &["bytes_sent::tcp"],
    },
    Signal {
        name: "the same by probes on functions",
        needs: &["sock_send_length|udp_sendmsg"],
        tests: &["options::probes_on_functions_"],
    },
    Signal {
        name: "sends of an upper device, counted once",
        needs: &["net_dev_queue"],
        tests: &["bytes_sent::a_device_on_top_"],
    },
    Signal {
        name: "sends sampled, marked as estimated, changed while running",
        needs: &["sock_send_length|udp_sendmsg"],
        tests: &["options::sampled_"],
    },
    Signal {
        name: "drops at a full queue, per socket and peer, batches in segments",
        needs: &["kfree_skb", "net_dev_queue"],
        tests: &["token_bucket::"],
    },
    Signal {
        name: "drops at a full receive buffer",
        needs: &["kfree_skb"],
        tests: &[
            "receive_overflow::what_",
            "receive_overflow::a_batch_",
            "receive_overflow::a_dual_stack_",
        ],
    },
    Signal {
        name: "name and class of a drop's reason",
        needs: &["kfree_skb", "skb_drop_reason"],
        tests: &["token_bucket::", "receive_overflow::what_", "rules::"],
    },
    Signal {
        name: "place in the kernel of a drop without a reason",
        needs: &["kfree_skb"],
        tests: &["silent_drops::"],
    },
    Signal {
        name: "queue: bytes of a flow, of the sharing flows, of all",
        needs: QUEUE,
        tests: &["backlog::"],
    },
    Signal {
        name: "what netem loses and delays",
        needs: QUEUE,
        tests: &["queue_disciplines::what_netem_"],
    },
    Signal {
        name: "fq: what its flow limit drops, what it holds back",
        needs: QUEUE,
        tests: &["queue_disciplines::what_fq_"],
    },
    Signal {
        name: "fq_codel: what it drops at dequeue, which no send reports",
        needs: QUEUE,
        tests: &["queue_disciplines::what_codel_"],
    },
    Signal {
        name: "queue: kind, limit, packets, also of a child under htb",
        needs: QUEUE,
        tests: &["queue_state::"],
    },
    Signal {
        name: "queue of a busy device: pfifo_fast without a lock, pfifo, bfifo, fq_codel",
        needs: QUEUE,
        tests: &["busy_device::"],
    },
    Signal {
        name: "queue: time that own packets spend in it",
        needs: QUEUE,
        tests: &["sojourn::"],
    },
    Signal {
        name: "send buffer: live, average, peak, payload",
        needs: &["sock_send_length|udp_sendmsg", "qdisc_enqueue"],
        tests: &["buffers::a_send_"],
    },
    Signal {
        name: "receive buffer's occupancy",
        needs: &["sock_recv_length|udp_recvmsg"],
        tests: &["receive_overflow::a_full_", "buffers::a_receive_"],
    },
    Signal {
        name: "events of buffers that fill and empty",
        needs: &["sock_recv_length|udp_recvmsg"],
        tests: &["events::a_buffer_"],
    },
    Signal {
        name: "events of drops, complete or counted as lost",
        needs: &["kfree_skb"],
        tests: &["events::every_drop_", "events::events_over_"],
    },
    Signal {
        name: "time in network softirqs",
        needs: &["softirq_entry", "softirq_exit"],
        tests: &["host::softirq_time_"],
    },
    Signal {
        name: "wait for network softirqs, and time of each CPU",
        needs: &["softirq_raise", "softirq_entry", "softirq_exit"],
        tests: &["host::softirq_wait_"],
    },
    Signal {
        name: "what each probe costs",
        needs: &[],
        tests: &["host::the_kernel_accounts_"],
    },
    Signal {
        name: "watching sockets and peers",
        needs: &["net_dev_queue"],
        tests: &["watching::"],
    },
];

impl Signal {
    pub(super) fn is_tested_by(&self, test: &str) -> bool {
        self.tests.iter().any(|name| test.starts_with(name))
    }
}
