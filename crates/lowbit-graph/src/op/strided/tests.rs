use super::*;

fn axes<const K: usize>(list: &[(usize, [isize; K])]) -> Vec<Axis<K>> {
    let one = |&(extent, strides): &(usize, [isize; K])| Axis { extent, strides };
    list.iter().map(one).collect()
}

#[test]
fn axes_that_all_operands_step_through_evenly_merge() {
    let walk = |a: &[usize], b: &[usize], out: &[usize]| {
        let walk = Walk::broadcast(&Shape::from(out), [&Shape::from(a), &Shape::from(b)]);
        [walk.outer, vec![walk.inner]].concat()
    };
    let image = [2, 3, 4, 5];
    assert_eq!(walk(&image, &image, &image), axes(&[(120, [1, 1])]));
    assert_eq!(walk(&image, &[], &image), axes(&[(120, [1, 0])]));
    let channels = axes(&[(2, [60, 0]), (3, [20, 1]), (20, [1, 0])]);
    assert_eq!(walk(&image, &[1, 3, 1, 1], &image), channels);
    assert_eq!(walk(&image, &[3, 1, 1], &image), channels);
    assert_eq!(walk(&image, &[2, 3, 1, 1], &image), axes(&[(6, [20, 1]), (20, [1, 0])]));
}

#[test]
fn a_walk_may_start_anywhere() {
    let walk = Walk::new([23], &axes(&[(2, [-12]), (3, [-4]), (4, [-1])]));
    let source: Vec<usize> = (0..24).collect();
    let expected: Vec<usize> = (0..24).rev().collect();
    for first in 0..24 {
        let mut out = vec![0; 24 - first];
        walk.rows(first, &mut out, |row, [at]| {
            row.iter_mut().enumerate().for_each(|(c, r)| *r = source[at - c]);
        });
        assert_eq!(out, expected[first..], "from {first}");
    }
}
