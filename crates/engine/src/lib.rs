//! What happens next inside one run: a state machine per node kind, without a clock or IO.
