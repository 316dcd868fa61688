//! kube-proxy's rules: their text is that of a real node, and packets go where a real node's rules send them.

mod fixture;
mod life;
mod packets;
mod site;
