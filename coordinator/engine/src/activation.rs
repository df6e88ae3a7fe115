//! Activations: the number of each fresh attempt budget of a step or item.
//!
//! A number is `4 × round + role`. The round says how often the execution had been resumed, the role why an agent is
//! called. So a number tells apart whatever could be mistaken for each other, and nobody has to remember which were
//! given out.

/// Why an agent is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// To do the step.
    Run,
    /// To do it in place of the step's agent.
    Fallback,
    /// To undo it.
    Compensation,
}

/// Room for roles in a round.
const ROLES: u32 = 4;

/// The activation of a role in a round.
pub(crate) const fn number(round: u32, role: Role) -> u32 {
    let role = match role {
        Role::Run => 0,
        Role::Fallback => 1,
        Role::Compensation => 2,
    };
    round.saturating_mul(ROLES).saturating_add(role)
}

/// The role of an activation; `None` for a number that is never given out.
pub(crate) const fn role(activation: u32) -> Option<Role> {
    match activation % ROLES {
        0 => Some(Role::Run),
        1 => Some(Role::Fallback),
        2 => Some(Role::Compensation),
        _ => None,
    }
}

/// The round of an activation.
pub(crate) const fn round(activation: u32) -> u32 {
    activation / ROLES
}

/// All activations of a round and of those before are below it.
pub(crate) const fn end_of(round: u32) -> u32 {
    round.saturating_add(1).saturating_mul(ROLES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_for_one_round_and_one_role() {
        for at in 0..5 {
            for of in [Role::Run, Role::Fallback, Role::Compensation] {
                let number = number(at, of);
                assert_eq!((round(number), role(number)), (at, Some(of)));
                assert!(number < end_of(at) && end_of(at) <= super::number(at + 1, Role::Run));
            }
        }
        assert_eq!(role(3), None);
    }
}
