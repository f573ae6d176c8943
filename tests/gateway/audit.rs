//! `mqtt-gateway audit`: silent over what is well, also while a gateway works, and by name over each defect.

mod defects;
mod traffic;
