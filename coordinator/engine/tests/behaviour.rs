//! What the engine does, as text: a history of entries in, effects and states out.

mod behaviour {
    mod check;

    mod absent;
    mod cancel;
    mod clocks;
    mod conditions;
    mod dependencies;
    mod duplicates;
    mod events;
    mod fallbacks;
    mod fan_in;
    mod fan_out;
    mod finally;
    mod forks;
    mod inputs;
    mod large_values;
    mod ledger;
    mod partial_results;
    mod resumed_fan_outs;
    mod resumes;
    mod retries;
    mod revisions;
    mod sagas;
    mod scenarios;
    mod takeover;
    mod tasks;
    mod timeouts;
    mod trust;
}
