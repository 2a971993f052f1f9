//! Nest and tile IR, schedules, the Cranelift emitter and the memory plan.
