// The status line: a lamp, the facts, and why the model was chosen.

const lamp = make('span', { class: 'cs-lamp', 'aria-hidden': 'true' });
const facts = make('ul', { class: 'cs-status-items' });
const reason = make('span', { class: 'cs-reason' });
root.classList.add('cs-status');
root.setAttribute('role', 'status');
root.append(lamp, facts, reason);

followValue((status) => {
  root.dataset.state = status.state;
  while (facts.children.length > status.items.length) facts.lastChild.remove();
  while (facts.children.length < status.items.length) facts.append(make('li'));
  status.items.forEach((item, index) => {
    setText(facts.children[index], item.text);
    facts.children[index].title = item.title || '';
  });
  setText(reason, status.reason || '');
});
