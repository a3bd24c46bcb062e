//! A watched value that never decreases.

use tokio::sync::watch;

/// Sets a watched value to `to` unless it is that large already. Receivers are notified only of an
/// increase.
pub fn raise<T: Ord>(value: &watch::Sender<T>, to: T) {
    value.send_if_modified(|value| {
        let is_news = to > *value;
        if is_news {
            *value = to;
        }
        is_news
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_grow_is_no_news() {
        let (value, mut news) = watch::channel(5);
        for (to, is_news, is) in [(4, false, 5), (5, false, 5), (7, true, 7)] {
            raise(&value, to);
            assert_eq!(news.has_changed().unwrap(), is_news, "{to}");
            assert_eq!(*news.borrow_and_update(), is);
        }
    }
}
