// What the page says of each model: one sentence for the model, one for what its panel shows, with the paper's place.
const link = (id, text) => `<a href="https://arxiv.org/abs/${id}">${text}</a>`

export const model = {
  rtmo: {
    name: 'RTMO',
    about: `${link('2312.07526', 'RTMO')} lets every cell of a grid propose a person, suppresses duplicates, and finds the
      joints of those that are left.`,
    title: 'Two heatmaps for each joint',
    inside: `The Dynamic Coordinate Classifier spreads its bins over 1.25 times the person's box and answers with one
      probability per bin of x and of y; the joint is their mean (RTMO, section 3.1).`,
  },
  poet: {
    name: 'POET',
    about: `${link('2103.12115', 'POET')} asks a fixed number of learned queries; each answers with a whole person or
      with nobody, and nothing is suppressed.`,
    title: "A query's attention, and its pose",
    inside: `Blue: where this query looks in the decoder's cross-attention, mean of its heads (POET, Fig. 7b). Lines: the
      pose is one centre and an offset to every joint (Fig. 2).`,
  },
  vitpose: {
    name: 'ViTPose',
    about: `${link('2204.12484', 'ViTPose')} is top-down: it looks at one person at a time, cut out along a box that RTMO
      (scores above 0.3) or the annotation of a drawn scene provides.`,
    title: 'A heatmap over the crop',
    inside: `A plain vision transformer sees this crop, and its decoder (ViTPose, section 3.1) gives each joint a heatmap;
      the dot is its peak, refined between the cells by DARK.`,
  },
}

const values = {
  rtmo: "Probability that a joint is in the image: RTMO's training counts occluded joints as visible.",
  poet: "Probability that a joint is visible, the v of POET's pose vector.",
  vitpose: "Peak of the joint's heatmap, 0 to 1: ViTPose predicts no visibility.",
}

export function joints(name, compared) {
  return `${values[name]} ${compared ? 'Mark: without the rectangle.' : 'Below 0.5 a joint is drawn hollow.'}`
}
