"""The host: one node of a cluster, from its disk to its peers.

Three pure machines (Raft, the database, the storage formats) decide *what* happens; this package
decides *when*, and is the first layer that knows threads and sockets. It comes in two halves.

**The driver** (`driver`, and its parts below) is the whole node as one synchronous state machine.
Events in: ticks, frames of peers, proposals, reads, and the completions of disk, apply and jobs.
Effects out: frames to send, group commits, pieces of apply work, jobs, answers. It never blocks,
and it has no thread, clock, socket or file.

**The shell** (`shell`, `transport`, `peer_app`, `service`, `workers`) is its body: an event loop on
a thread of its own, a thread for each executor, lanes of framed messages over HTTP. The simulator
of the tests is another body: simulated time, network, disk and completions around the same driver.

Vocabulary
    *frame*: what one driver sends another (`frames`): a Raft message or a packet.
    *lane*: an ordered stream of frames between two nodes that never waits for another (`wire`).
    *work*: what is handed to an executor; *piece*: one `ApplyWork`.
    *token*: names a proposal or a read until it is answered.
    *mark*: the WAL's note of the newest checkpoint.
    *offer*: a leader's word that a follower needs a checkpoint; *staged*: an offered checkpoint
    that is durable here but not yet ours.

Invariants
    * A message of a term leaves only when that term is durable; an attestation (vote, append
      response) only when what it attests is. Appends of a leader leave in parallel with its sync.
    * One sync is under way at a time; all that arrives meanwhile shares the next (group commit).
    * Entries are applied in order, each once, on one thread; a freeze falls between two entries.
    * A proposal is answered once: by the result of the entry with its index *and* term, or as
      failed (certainly not in the log), or as unknown. A leader that steps down answers unknown.
    * A read is served at an index that covers all that was acknowledged before it began; a repeated
      request never re-uses an id (Ongaro's thesis, section 6.4).
    * A checkpoint is durable before the WAL's mark names it; the mark is durable before a snapshot
      is restored; the log is compacted after. `boot` holds the rule for each crash between.
    * A member is bound to the disk it was first heard from; another disk under its id is refused.
    * Whatever waits is bounded (`options`) and refused before the log with `Overloaded`.

Costs
    A write costs the leader one share of a sync and one round trip, in parallel; a read one round
    of heartbeats shared by all reads that arrived in between. A checkpoint costs the apply thread
    the freeze and the copies of chunks written meanwhile. A snapshot costs the chunks the receiver
    lacks, a few in flight.

What it does not do
    Host more than one group, or repair a damaged log from peers: the
    formats leave the place (group in every frame, joint quorums in Raft, content-addressed chunks).

Sources: Ongaro's thesis, chapters 3 to 6 and 10; the message and ready discipline of etcd-io/raft.
"""
