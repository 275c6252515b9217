//! Scan of a scrape body: the bytes of an exposition endpoint become values of the series that somebody asked for.
