;; The product of matrices, the one place where the time of a dream goes.
;;
;; product(x, w, y, rows, inputs, panels): y = x w, all float32, at these addresses in memory.
;;   x  [rows, inputs]
;;   w  [panels, inputs, 8]: the weights, cut into panels of eight columns, so that they are read from first to last
;;   y  [rows, panels * 8]
;;
;; Four rows at a time are multiplied by a panel, the last rows one by one. Every sum goes over the inputs in their order:
;; its result is the same, bit for bit, on every device. Assemble with: wat2wasm kernel.wat -o kernel.wasm
(module
  (memory (export "memory") 1)
  (func (export "product")
    (param $x i32) (param $w i32) (param $y i32) (param $rows i32) (param $inputs i32) (param $panels i32)
    (local $x_row i32) (local $y_row i32) (local $panel_bytes i32) ;; bytes of a row of x, of a row of y, of a panel
    (local $row i32) (local $from i32) (local $to i32) (local $p i32) (local $q i32) (local $end i32)
    (local $low v128) (local $high v128) (local $value v128) ;; eight weights; one x, four times
    (local $low0 v128) (local $low1 v128) (local $low2 v128) (local $low3 v128)
    (local $high0 v128) (local $high1 v128) (local $high2 v128) (local $high3 v128)
    (local.set $x_row (i32.shl (local.get $inputs) (i32.const 2)))
    (local.set $y_row (i32.shl (local.get $panels) (i32.const 5)))
    (local.set $panel_bytes (i32.shl (local.get $inputs) (i32.const 5)))
    (block $done
      (loop $next_panel
        (br_if $done (i32.eqz (local.get $panels)))
        (local.set $panels (i32.sub (local.get $panels) (i32.const 1)))
        (local.set $end (i32.add (local.get $w) (local.get $panel_bytes)))
        (local.set $row (local.get $rows))
        (local.set $from (local.get $x))
        (local.set $to (local.get $y))

        (block $fours_done
          (loop $next_four
            (br_if $fours_done (i32.lt_s (local.get $row) (i32.const 4)))
            (local.set $low0 (v128.const f32x4 0 0 0 0))
            (local.set $low1 (local.get $low0)) (local.set $low2 (local.get $low0)) (local.set $low3 (local.get $low0))
            (local.set $high0 (local.get $low0)) (local.set $high1 (local.get $low0))
            (local.set $high2 (local.get $low0)) (local.set $high3 (local.get $low0))
            (local.set $p (local.get $w))
            (local.set $q (local.get $from))
            (loop $next_input
              (local.set $low (v128.load (local.get $p)))
              (local.set $high (v128.load offset=16 (local.get $p)))
              (local.set $value (v128.load32_splat (local.get $q)))
              (local.set $low0 (f32x4.add (local.get $low0) (f32x4.mul (local.get $value) (local.get $low))))
              (local.set $high0 (f32x4.add (local.get $high0) (f32x4.mul (local.get $value) (local.get $high))))
              (local.set $value (v128.load32_splat (i32.add (local.get $q) (local.get $x_row))))
              (local.set $low1 (f32x4.add (local.get $low1) (f32x4.mul (local.get $value) (local.get $low))))
              (local.set $high1 (f32x4.add (local.get $high1) (f32x4.mul (local.get $value) (local.get $high))))
              (local.set $value
                (v128.load32_splat (i32.add (local.get $q) (i32.mul (local.get $x_row) (i32.const 2)))))
              (local.set $low2 (f32x4.add (local.get $low2) (f32x4.mul (local.get $value) (local.get $low))))
              (local.set $high2 (f32x4.add (local.get $high2) (f32x4.mul (local.get $value) (local.get $high))))
              (local.set $value
                (v128.load32_splat (i32.add (local.get $q) (i32.mul (local.get $x_row) (i32.const 3)))))
              (local.set $low3 (f32x4.add (local.get $low3) (f32x4.mul (local.get $value) (local.get $low))))
              (local.set $high3 (f32x4.add (local.get $high3) (f32x4.mul (local.get $value) (local.get $high))))
              (local.set $q (i32.add (local.get $q) (i32.const 4)))
              (br_if $next_input (i32.lt_u
                (local.tee $p (i32.add (local.get $p) (i32.const 32))) (local.get $end))))
            (local.set $q (local.get $to))
            (v128.store (local.get $q) (local.get $low0))
            (v128.store offset=16 (local.get $q) (local.get $high0))
            (local.set $q (i32.add (local.get $q) (local.get $y_row)))
            (v128.store (local.get $q) (local.get $low1))
            (v128.store offset=16 (local.get $q) (local.get $high1))
            (local.set $q (i32.add (local.get $q) (local.get $y_row)))
            (v128.store (local.get $q) (local.get $low2))
            (v128.store offset=16 (local.get $q) (local.get $high2))
            (local.set $q (i32.add (local.get $q) (local.get $y_row)))
            (v128.store (local.get $q) (local.get $low3))
            (v128.store offset=16 (local.get $q) (local.get $high3))
            (local.set $to (i32.add (local.get $q) (local.get $y_row)))
            (local.set $from (i32.add (local.get $from) (i32.shl (local.get $x_row) (i32.const 2))))
            (local.set $row (i32.sub (local.get $row) (i32.const 4)))
            (br $next_four)))

        (block $ones_done
          (loop $next_one
            (br_if $ones_done (i32.eqz (local.get $row)))
            (local.set $low0 (v128.const f32x4 0 0 0 0))
            (local.set $high0 (local.get $low0))
            (local.set $p (local.get $w))
            (loop $next_input
              (local.set $value (v128.load32_splat (local.get $from)))
              (local.set $low0 (f32x4.add (local.get $low0)
                (f32x4.mul (local.get $value) (v128.load (local.get $p)))))
              (local.set $high0 (f32x4.add (local.get $high0)
                (f32x4.mul (local.get $value) (v128.load offset=16 (local.get $p)))))
              (local.set $from (i32.add (local.get $from) (i32.const 4)))
              (br_if $next_input (i32.lt_u
                (local.tee $p (i32.add (local.get $p) (i32.const 32))) (local.get $end))))
            (v128.store (local.get $to) (local.get $low0))
            (v128.store offset=16 (local.get $to) (local.get $high0))
            (local.set $to (i32.add (local.get $to) (local.get $y_row)))
            (local.set $row (i32.sub (local.get $row) (i32.const 1)))
            (br $next_one)))

        (local.set $w (local.get $end))
        (local.set $y (i32.add (local.get $y) (i32.const 32)))
        (br $next_panel)))))
