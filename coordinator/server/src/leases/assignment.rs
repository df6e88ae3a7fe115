//! Which coordinator is to own which partition: a function of who is present, that every coordinator computes alike.

use std::collections::{BTreeMap, BTreeSet};

use millstream_model::ids::{NodeId, Partition};

/// Gives each partition to the coordinator that ranks highest for it by rendezvous hashing and has room.
///
/// `members` are the coordinators that may own, each with the partitions that it cannot fold. Nobody gets more than its
/// share (the partitions divided by the coordinators, rounded up) unless no other may own what is left over. A
/// partition that nobody can fold is not in the answer.
pub fn assign(partitions: u16, members: &BTreeMap<NodeId, BTreeSet<Partition>>) -> BTreeMap<Partition, NodeId> {
    let share = usize::from(partitions).div_ceil(members.len().max(1));
    let mut owned: BTreeMap<&NodeId, usize> = BTreeMap::new();
    let mut assigned = BTreeMap::new();
    for partition in all(partitions) {
        let mut able: Vec<&NodeId> = members.keys().filter(|node| !members[*node].contains(&partition)).collect();
        able.sort_by_key(|node| std::cmp::Reverse(rank(node, partition)));
        let has_room = |node: &&&NodeId| owned.get(**node).is_none_or(|&count| count < share);
        if let Some(&node) = able.iter().find(has_room).or(able.first()) {
            *owned.entry(node).or_default() += 1;
            assigned.insert(partition, node.clone());
        }
    }
    assigned
}

/// The partitions of a cluster.
pub fn all(partitions: u16) -> impl Iterator<Item = Partition> {
    (0..partitions.min(256)).map(|index| Partition(u8::try_from(index).expect("there are at most 256")))
}

fn rank(node: &NodeId, partition: Partition) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[partition.0]);
    hasher.update(node.as_str().as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_an_even_share() {
        for count in 1..=8 {
            let assigned = assign(8, &members(count));
            assert_eq!(assigned.len(), 8);
            let most = shares(&assigned).values().copied().max();
            assert_eq!(most, Some(8_usize.div_ceil(count)), "{count} coordinators");
        }
    }

    #[test]
    fn who_cannot_fold_a_partition_does_not_get_it() {
        let mut members = members(2);
        members.insert(node(1), all(8).collect());
        assert_eq!(shares(&assign(8, &members)), BTreeMap::from([(node(2), 8)]));
        members.insert(node(2), BTreeSet::from([Partition(3)]));
        let assigned = assign(8, &members);
        assert_eq!(assigned.len(), 7);
        assert!(!assigned.contains_key(&Partition(3)));
    }

    #[test]
    fn nobody_present_means_nobody_owns() {
        assert!(assign(8, &BTreeMap::new()).is_empty());
    }

    #[test]
    fn few_partitions_move_when_one_of_many_leaves() {
        let (before, mut fewer) = (assign(64, &members(8)), members(8));
        fewer.remove(&node(5));
        let after = assign(64, &fewer);
        let moved = before.iter().filter(|(partition, node)| after[partition] != **node).count();
        assert!(moved < 32, "{moved} of 64 moved");
    }

    fn node(number: usize) -> NodeId {
        format!("node-{number}").parse().expect("a name")
    }

    fn members(count: usize) -> BTreeMap<NodeId, BTreeSet<Partition>> {
        (1..=count).map(|number| (node(number), BTreeSet::new())).collect()
    }

    fn shares(assigned: &BTreeMap<Partition, NodeId>) -> BTreeMap<NodeId, usize> {
        let mut shares = BTreeMap::new();
        for node in assigned.values() {
            *shares.entry(node.clone()).or_default() += 1;
        }
        shares
    }
}
