//! What should run at all: events become submissions.
