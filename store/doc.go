// Package store is the disk of a node: queues of sealed bodies that expire, and
// lasting records, behind one committer. It knows no subject: no rooms, no members.
//
// Its promises:
//
//   - Commit returns nil only after the whole Batch is on stable storage (a Batch of
//     acknowledgements alone may come back after a power cut), and every read after
//     it sees it. A Batch happens as a whole or not at all.
//   - What is damaged is named (Item.Err, Status.Damaged) and takes nothing else
//     with it. What is missing at the end is named too (Status.Lost).
//   - Within a second after a body's last reference was acknowledged, and within
//     seconds after its deadline bucket ended, no file of the store holds a key that
//     opens it. A clock that jumps ahead destroys nothing (Status.ClockHeld).
//   - A full disk is ErrFull for what grows, while reads and acknowledgements go on.
//     After a failed sync nothing is promised until the store is opened anew.
//
// It leaves to others who owns a queue, what a deadline should be, whom to tell of
// an expiry (Expired), quotas, and what the marks mean.
//
// # The engine
//
// A segment log, filled with zeros ahead and written with one fdatasync per group of
// batches, is the truth and the only thing on disk. The index (which reference lies
// where) is in memory, about 100 bytes a reference, and is rebuilt at Open by
// reading and verifying the whole log, which reclaim keeps within twice of what is
// live. Nothing is mapped into memory, so a full or failing disk is an error and
// never a signal.
//
// # On disk, format version 1
//
//	lock               held while open; the pid of the holder
//	keys               slots 0 to 2 (package slot): the secrets of the bucket ratchet
//	marks              two sectors of 4 KiB written in turn, see marks.go
//	log/00000001.seg   segments, numbered without a gap, the oldest removed first
//	log/spare          the next segment, filled with zeros
//
// docs/disk.md describes every byte. Integers are little endian in the log. A later
// version reads all earlier ones; Open refuses a version it does not know and
// changes nothing then.
package store
