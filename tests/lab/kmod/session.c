// SPDX-License-Identifier: GPL-2.0-only
#include "session.h"

#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

static int release(struct inode *inode, struct file *file)
{
	struct session *s = file->private_data;

	mutex_destroy(&s->lock);
	kfree(s->state);
	kfree(s);
	return 0;
}

static ssize_t read(struct file *file, char __user *to, size_t len, loff_t *pos)
{
	struct session *s = file->private_data;
	ssize_t ret;

	if (pos)
		return -ESPIPE;
	mutex_lock(&s->lock);
	len = min(len, s->filled - s->at);
	if (s->over)
		ret = -ENODEV;
	else if (copy_to_user(to, (u8 *)s->state + s->at, len))
		ret = -EFAULT;
	else
		ret = len;
	if (ret > 0)
		s->at += ret;
	mutex_unlock(&s->lock);
	return ret;
}

static ssize_t write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	struct session *s = file->private_data;
	ssize_t ret;

	if (pos)
		return -ESPIPE;
	mutex_lock(&s->lock);
	if (s->over)
		ret = -ENODEV;
	else if (len > s->size - s->filled)
		ret = -EINVAL; /* more than a state has */
	else if (copy_from_user((u8 *)s->state + s->filled, from, len))
		ret = -EFAULT;
	else
		ret = len;
	if (ret > 0)
		s->filled += ret;
	mutex_unlock(&s->lock);
	return ret;
}

static const struct file_operations saving_ops = {
	.owner = THIS_MODULE,
	.read = read,
	.release = release,
};

static const struct file_operations resuming_ops = {
	.owner = THIS_MODULE,
	.write = write,
	.release = release,
};

struct session *session_create(bool saving)
{
	struct session *s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);

	if (!s)
		return ERR_PTR(-ENOMEM);
	s->size = card_state_size();
	s->state = kzalloc(s->size, GFP_KERNEL_ACCOUNT);
	if (!s->state) {
		kfree(s);
		return ERR_PTR(-ENOMEM);
	}
	s->file = anon_inode_getfile("godwit-e1000e-state", saving ? &saving_ops : &resuming_ops, s,
	                             saving ? O_RDONLY : O_WRONLY);
	if (IS_ERR(s->file)) {
		long error = PTR_ERR(s->file);

		kfree(s->state);
		kfree(s);
		return ERR_PTR(error);
	}
	mutex_init(&s->lock);
	stream_open(s->file->f_inode, s->file);
	return s;
}

void session_end(struct session **session)
{
	struct session *s = *session;

	if (!s)
		return;
	*session = NULL;
	mutex_lock(&s->lock);
	s->over = true;
	mutex_unlock(&s->lock);
	fput(s->file);
}
