//! The scenarios: what each is, and what must hold.

mod bounds;
mod changes;
mod others;
mod queues;

use super::check::Check;
use super::parameters::Parameters;

/// A named set of parameters with what must hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// What it is, in one line.
    pub(super) about: &'static str,
    pub(super) parameters: fn(Parameters) -> Parameters,
    pub(super) checks: fn(&Parameters) -> Vec<Check>,
}

impl Scenario {
    /// The scenario of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        all().find(|scenario| scenario.name == name)
    }

    /// Its own parameters.
    pub(super) fn own(&self) -> Parameters {
        (self.parameters)(Parameters::default())
    }
}

/// All that there are.
pub(super) fn all() -> impl Iterator<Item = &'static Scenario> {
    [queues::ALL, others::ALL, changes::ALL]
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::lab::check::Bound::{AtLeast, AtMost, Within};
    use crate::lab::overrides::Overrides;

    #[test]
    fn every_scenario_can_be_had_and_has_something_to_hold() {
        let names: BTreeSet<_> = all().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all().count(), "two have one name");
        for scenario in all() {
            let own = Overrides::default().apply(scenario.own());
            let own = own.unwrap_or_else(|error| panic!("{}: {error:#}", scenario.name));
            assert!(!(scenario.checks)(&own).is_empty(), "{}", scenario.name);
        }
    }

    #[test]
    fn the_documentation_lists_the_scenarios() {
        let document = include_str!("../../../../../docs/lab.md");
        for Scenario { name, about, .. } in all() {
            let line = format!("| `{name}` | {about} |");
            assert!(document.contains(&line), "{line}");
        }
    }

    #[test]
    fn wide_bounds_are_wider_than_goals() {
        for scenario in all() {
            for check in (scenario.checks)(&scenario.own()) {
                let (low, high) = ends(check.goal);
                let Some(wide) = check.wide.map(ends) else {
                    continue;
                };
                assert!(wide.0 <= low && wide.1 >= high, "{}", scenario.name);
            }
        }
    }

    fn ends(bound: crate::lab::check::Bound) -> (f64, f64) {
        match bound {
            AtMost(most) => (f64::NEG_INFINITY, most),
            AtLeast(least) => (least, f64::INFINITY),
            Within(least, most) => (least, most),
        }
    }

    #[test]
    fn beside_three_tcp_flows_a_fifth_to_a_half_is_right() {
        let beside = Scenario::named("beside-tcp").unwrap();
        let three = Parameters {
            tcp: 3,
            ..beside.own()
        };
        let share = (beside.checks)(&three)[0];
        assert_eq!(share.goal, Within(20.0, 50.0));
    }
}
