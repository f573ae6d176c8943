//! `mqtt-gateway audit`: names each defect, and finds none in good tables, also while a gateway works.

mod defects;
mod traffic;
