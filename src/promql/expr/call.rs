//! The functions and aggregations that backstop evaluates, by their PromQL names.

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($variant:ident = $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in crate::promql) enum $type { $($variant),* }

        impl $type {
            pub(in crate::promql) fn from_name(name: &str) -> Option<$type> {
                match name {
                    $($name => Some($type::$variant),)*
                    _ => None,
                }
            }

            pub(in crate::promql) fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name),*
                }
            }
        }
    };
}

named! {
    Function {
        Abs = "abs", Absent = "absent", AbsentOverTime = "absent_over_time", Acos = "acos", Acosh = "acosh",
        Asin = "asin", Asinh = "asinh", Atan = "atan", Atanh = "atanh", AvgOverTime = "avg_over_time", Ceil = "ceil",
        Changes = "changes", Clamp = "clamp", ClampMax = "clamp_max", ClampMin = "clamp_min", Cos = "cos",
        Cosh = "cosh", CountOverTime = "count_over_time", DayOfMonth = "day_of_month", DayOfWeek = "day_of_week",
        DayOfYear = "day_of_year", DaysInMonth = "days_in_month", Deg = "deg", Delta = "delta", Deriv = "deriv",
        Exp = "exp", FirstOverTime = "first_over_time", Floor = "floor", HistogramFraction = "histogram_fraction", HistogramQuantile = "histogram_quantile", Hour = "hour", Idelta = "idelta",
        Increase = "increase", Irate = "irate", LabelJoin = "label_join", LabelReplace = "label_replace",
        LastOverTime = "last_over_time", Ln = "ln", Log10 = "log10", Log2 = "log2", MaxOverTime = "max_over_time",
        MinOverTime = "min_over_time", Minute = "minute", Month = "month", Pi = "pi",
        PredictLinear = "predict_linear", PresentOverTime = "present_over_time",
        QuantileOverTime = "quantile_over_time", Rad = "rad", Rate = "rate", Resets = "resets", Round = "round",
        Scalar = "scalar", Sgn = "sgn", Sin = "sin", Sinh = "sinh", Sort = "sort", SortDesc = "sort_desc",
        Sqrt = "sqrt", StddevOverTime = "stddev_over_time", StdvarOverTime = "stdvar_over_time",
        SumOverTime = "sum_over_time", Tan = "tan", Tanh = "tanh", Time = "time", Timestamp = "timestamp",
        Vector = "vector", Year = "year",
    }
}

named! {
    Aggregator {
        Sum = "sum", Avg = "avg", Min = "min", Max = "max", Count = "count", Stddev = "stddev", Stdvar = "stdvar",
        Topk = "topk", Bottomk = "bottomk", Quantile = "quantile", Group = "group", CountValues = "count_values",
    }
}
