//! What the engine does, as text: a history of entries in, effects and states out.

mod behaviour {
    mod check;

    mod cancel;
    mod conditions;
    mod dependencies;
    mod duplicates;
    mod events;
    mod fan_in;
    mod fan_out;
    mod inputs;
    mod large_values;
    mod retries;
    mod timeouts;
    mod trust;
}
