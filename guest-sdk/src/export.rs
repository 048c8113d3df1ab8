//! The macro that turns a plugin into a component.

/// Exports a [`Plugin`](crate::Plugin) as a component. Invoke it once per crate, whose `crate-type`
/// is `cdylib`; natively it only checks the type.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Component;

            ::std::thread_local! {
                static INSTANCE: $crate::Instance<$plugin> = const { $crate::Instance::new() };
            }

            impl $crate::bindings::exports::abide::session::guest::Guest for Component {
                fn open(
                    context: $crate::Context,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    INSTANCE.with(|instance| instance.open(&context))
                }

                fn turn(
                    input: ::std::vec::Vec<$crate::Message>,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    INSTANCE.with(|instance| instance.turn(&input))
                }

                fn snapshot() -> $crate::State {
                    INSTANCE.with(|instance| instance.snapshot())
                }

                fn restore(
                    _context: $crate::Context,
                    snapshot: $crate::State,
                ) -> ::core::result::Result<(), $crate::RestoreError> {
                    INSTANCE.with(|instance| instance.restore(&snapshot))
                }
            }

    $crate::bindings::export!(Component with_types_in $crate::bindings);
        };

        #[cfg(not(target_family = "wasm"))]
        const _: $crate::Instance<$plugin> = {
            const fn is_plugin<P: $crate::Plugin>() {}
            is_plugin::<$plugin>();
            $crate::Instance::new()
        };
    };
}
